//! What apps send because their owner asks for it, by the names of real and of invented apps and hosts: nothing loud.

use serde_json::json;

use crate::{Bench, own, request::*};

#[test]
#[allow(clippy::too_many_lines, reason = "a list")]
fn ordinary_traffic_of_known_and_unknown_apps() {
    let mut bench = Bench::new();
    let here = r#"{"lat":38.722252,"lon":-9.139337}"#;
    let uuid = "0c9d3f62-8a41-4f6e-b0a5-6a2f0e7d9c11";
    let jwt = format!(
        "{}.{}.{}",
        base64_url_bare(br#"{"alg":"HS256","typ":"JWT"}"#),
        base64_url_bare(br#"{"sub":"u-1029","iat":1588291200,"jti":"7f3a90cc"}"#),
        base64_url_bare(&[0xa5; 32])
    );
    let noise: Vec<u8> = (0..900u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 22) as u8).collect();
    let rows: Vec<(&str, &str, &str, Vec<u8>)> = vec![
        ("map", "com.google.android.apps.maps", "maps.googleapis.com", post("/v1/nearby", "maps.googleapis.com", JSON, here)),
        ("map, tile", "net.osmand", "tile.openstreetmap.org", get("/14/8190/6150.png?lat=38.722252&lon=-9.139337", "tile.openstreetmap.org")),
        ("map, invented", "com.example.trip", "maps.example.com", get("/route?from=38.722252,-9.139337&to=41.157944,-8.629105", "maps.example.com")),
        ("map app, invented", "com.example.maps", "api.example.com", get("/near?ll=38.722252,-9.139337&q=pharmacy", "api.example.com")),
        ("weather", "com.miui.weather2", "weatherapi.market.xiaomi.com", get("/wtr-v3/weather/all?latitude=38.722252&longitude=-9.139337", "weatherapi.market.xiaomi.com")),
        ("weather, invented", "com.example.weather", "api.example.com", get("/now?lat=38.722252&lon=-9.139337", "api.example.com")),
        ("weather host", "com.example.widget", "weather.example.com", get("/now?lat=38.722252&lon=-9.139337", "weather.example.com")),
        ("search", "org.mozilla.firefox", "www.google.com", get("/search?q=38.722252,-9.139337+hotel", "www.google.com")),
        ("suggestions", "com.android.chrome", "www.google.com", get("/complete/search?client=chrome&q=divorce+la", "www.google.com")),
        ("suggestions", "org.mozilla.firefox", "ac.duckduckgo.com", get("/ac/?q=bankruptcy&type=list", "ac.duckduckgo.com")),
        ("page", "com.mi.globalbrowser", "clinic.example.org", get("/hiv-test?id=12", "clinic.example.org")),
        ("page with a form", "com.android.chrome", "shop.example.com", post("/checkout", "shop.example.com", FORM, "name=Ana&phone=%2B351912345678&email=a%40example.org")),
        ("sign-in", "com.xiaomi.account", "account.xiaomi.com", post("/pass/serviceLoginAuth2", "account.xiaomi.com", FORM, format!("user={}&hash=8FE4C11451281C094A6578E6DDBF5EED", own("mi_account")))),
        ("sign-in, invented", "com.example.bank", "login.example.com", post("/v1/token", "login.example.com", JSON, json!({"phone": own("phone"), "otp": "123456"}).to_string())),
        ("sign-in, form", "com.example.shop", "api.example.com", post("/login", "api.example.com", FORM, form(&[("phone", &own("phone")), ("password", "x")]))),
        ("update check", "com.android.updater", "update.miui.com", post("/updates/v1/fullromdownload.php", "update.miui.com", JSON, json!({"imei": own("imei1"), "sn": own("serial"), "d": "ginkgo"}).to_string())),
        ("update, invented", "com.example.vendor.updater", "ota.example.com", post("/check", "ota.example.com", JSON, json!({"imei": own("imei1"), "serial": own("serial")}).to_string())),
        ("store", "com.xiaomi.mipicks", "app.market.intl.xiaomi.com", post("/apm/updateinfo/v2", "app.market.intl.xiaomi.com", FORM, "packageName=com.whatsapp%2Corg.mozilla.firefox%2Ccom.example.bank&versionCode=1%2C2%2C3")),
        ("store", "com.android.vending", "play-fe.googleapis.com", post("/fdfe/bulkDetails", "play-fe.googleapis.com", JSON, json!({"docs": ["com.whatsapp", "org.mozilla.firefox", "com.example.bank"]}).to_string())),
        ("chat", "com.whatsapp", "g.whatsapp.net", post("/m", "g.whatsapp.net", JSON, json!({"m": format!("I am at 38.722252,-9.139337, Wi-Fi is {}", own("ssid"))}).to_string())),
        ("chat, invented", "com.example.chat", "chat.example.com", post("/rooms/7/messages", "chat.example.com", JSON, json!({"text": format!("meet me at 38.722252, -9.139337 or call {}", own("phone"))}).to_string())),
        ("mail", "com.google.android.gm", "mail.google.com", post("/sync/u/0/i/s", "mail.google.com", JSON, json!({"body": format!("My IMEI is {} and the phone is {}", own("imei1"), own("phone"))}).to_string())),
        ("mail, invented", "com.example.mail", "api.example.com", post("/messages/send", "api.example.com", JSON, json!({"to": "b@example.org", "body": format!("my serial is {}", own("serial"))}).to_string())),
        ("post", "com.example.social", "api.example.com", post("/v1/post", "api.example.com", JSON, json!({"caption": "at home", "geo": own("ssid")}).to_string())),
        ("crash", "com.example.shop", "crash.example.com", post("/report", "crash.example.com", JSON, json!({"event": "crash", "stack": "java.lang.NullPointerException", "install": uuid}).to_string())),
        ("news", "com.example.news", "news.example.com", get("/feed?cursor=Zm9vYmFyYmF6cXV1eHF1dXV1eA&limit=20", "news.example.com")),
        ("game", "com.example.game", "game.example.com", post("/score", "game.example.com", JSON, json!({"score": 490_154_203_237_526_u64, "seed": "9f3c2b7a1d4e5f61"}).to_string())),
        ("shop", "com.example.shop", "shop.example.com", post("/cart", "shop.example.com", JSON, json!({"order": "356938035643817", "sku": "F1A2B3C5", "session": uuid}).to_string())),
        ("token", "com.example.shop", "api.example.com", http("POST", "/refresh", "api.example.com", &[JSON, ("Authorization", &format!("Bearer {jwt}"))], json!({"refresh_token": jwt}).to_string().as_bytes())),
        ("CDN", "com.example.shop", "img.cdn.example.com", get(&format!("/i/0eaed834a1e6f4b2bf0c024e0013dea2.webp?Signature={}&Expires=1588294800", base64_url_bare(&noise[..96])), "img.cdn.example.com")),
        ("upload", "com.example.photos", "up.example.com", post("/img", "up.example.com", JSON, json!({"img": base64(&noise)}).to_string())),
        ("opaque body", "com.example.game", "game.example.com", post("/s", "game.example.com", BYTES, &noise)),
        ("two apps", "com.example.share", "api.example.com", post("/open", "api.example.com", JSON, json!({"with": ["com.whatsapp", "org.mozilla.firefox"]}).to_string())),
        ("own name thrice", "com.example.bank", "api.example.com", post("/v", "api.example.com", JSON, json!({"app": "com.example.bank", "ref": ["com.example.bank", "com.example.bank"]}).to_string())),
        ("nothing", "com.example.app", "api.example.com", post("/a", "api.example.com", JSON, json!({"gaid": "00000000-0000-0000-0000-000000000000", "mac": "02:00:00:00:00:00", "imei": "000000000000000", "ssid": "<unknown ssid>", "android_id": "9774d56d682e549c", "bssid": "02:00:00:00:00:00"}).to_string())),
        ("part of a number", "com.example.app", "api.example.com", post("/a", "api.example.com", JSON, json!({"n": "96012345678", "s": "af1a2b3c4d", "w": "MyLisboa-Home-5Gx"}).to_string())),
        ("music", "com.spotify.music", "spclient.wg.spotify.com", post("/play", "spclient.wg.spotify.com", JSON, json!({"song": "Grandola", "artist": "Zeca"}).to_string())),
        ("contacts", "com.example.phonebook", "sync.example.com", post("/v1/contacts", "sync.example.com", JSON, json!({"owner": own("phone"), "cards": 12}).to_string())),
        ("connectivity check", "com.android.captiveportallogin", "connectivitycheck.gstatic.com", get("/generate_204", "connectivitycheck.gstatic.com")),
    ];
    for (name, app, host, sent) in rows {
        bench.check(name, (app, host), &sent, &[], None);
    }
    bench.finish("ordinary traffic");
}
