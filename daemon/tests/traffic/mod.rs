//! What ordinary apps send on an ordinary day, for the tests that must stay quiet about it.
#![allow(clippy::unwrap_used, reason = "a test's helpers may fail")]
#![allow(dead_code, reason = "each test takes what it needs")]

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use telltale::wire::{Message, Protocol};

/// xorshift64*: the same traffic in every run.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| (self.next() >> 32) as u8).collect()
    }

    pub(crate) fn hex(&mut self, digits: usize) -> String {
        (0..digits).map(|_| char::from_digit((self.next() >> 40) as u32 & 15, 16).unwrap()).collect()
    }

    pub(crate) fn uuid(&mut self) -> String {
        format!("{}-{}-4{}-a{}-{}", self.hex(8), self.hex(4), self.hex(3), self.hex(3), self.hex(12))
    }

    /// Fifteen digits with a right check digit, as every third order number has.
    pub(crate) fn luhn(&mut self) -> String {
        let digits: Vec<u32> = (0..14).map(|_| (self.next() >> 40) as u32 % 10).collect();
        let sum: u32 = digits
            .iter()
            .rev()
            .enumerate()
            .map(|(i, d)| if i % 2 == 0 { d * 2 / 10 + d * 2 % 10 } else { *d })
            .sum();
        digits
            .iter()
            .map(|d| char::from_digit(*d, 10).unwrap())
            .chain(char::from_digit((10 - sum % 10) % 10, 10))
            .collect()
    }

    pub(crate) fn jwt(&mut self) -> String {
        let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","typ":"JWT"}"#);
        let claims = format!(
            r#"{{"sub":"{}","iat":1588291200,"exp":1588294800,"jti":"{}"}}"#,
            self.hex(12),
            self.uuid()
        );
        format!("{header}.{}.{}", URL_SAFE_NO_PAD.encode(claims), URL_SAFE_NO_PAD.encode(self.bytes(32)))
    }
}

/// A message and who sends it.
pub(crate) struct Sent {
    pub(crate) what: &'static str,
    /// Its name and role.
    pub(crate) app: (&'static str, &'static str),
    /// Its name and role.
    pub(crate) host: (&'static str, &'static str),
    pub(crate) message: Message,
}

fn sent(
    what: &'static str,
    app: (&'static str, &'static str),
    host: (&'static str, &'static str),
    method: &str,
    target: String,
    body: String,
) -> Sent {
    let kind =
        if body.starts_with(['{', '[']) { "application/json" } else { "application/x-www-form-urlencoded" };
    let message = Message {
        protocol: Protocol::Http1,
        method: method.into(),
        target,
        host: Some(host.0.into()),
        headers: vec![
            ("content-type".into(), kind.into()),
            ("user-agent".into(), "Mozilla/5.0 (Linux; Android 9; Redmi Note 8)".into()),
        ],
        body_len: body.len() as u64,
        body: body.into(),
        ..Message::default()
    };
    Sent { what, app, host, message }
}

/// One message of each sort that apps send because their owner asks for it.
#[allow(clippy::too_many_lines, reason = "a list")]
pub(crate) fn ordinary(r: &mut Random) -> Vec<Sent> {
    let shop = ("com.example.shop", "");
    let api = ("api.shop.example", "");
    let get = |what, app, host, target| sent(what, app, host, "GET", target, String::new());
    vec![
        sent("shop: cart", shop, api, "POST", "/cart".into(), format!(r#"{{"items":[{{"sku":"{}","qty":2,"price":19.99}}],"coupon":"SPRING24","order":"{}"}}"#, r.hex(10), r.luhn())),
        get("shop: search", shop, api, format!("/v2/search?q=red+shoes&page=2&size=42&sid={}", r.hex(32))),
        sent("shop: pay", shop, api, "POST", "/pay".into(), format!(r#"{{"amount":"129.90","currency":"EUR","token":"tok_{}","card_last4":"4242"}}"#, r.hex(24))),
        sent("shop: address form", shop, api, "POST", "/address".into(), "firstname=Ana&lastname=Silva&street=Rua+A+1&city=Lisboa&zip=1100-001&phone=%2B351912345678".into()),
        get("map: tile", ("com.example.maps", "map"), ("tiles.map.example", "map"), format!("/14/{}/{}.png?access_token={}", r.next() % 16384, r.next() % 16384, r.hex(40))),
        sent("map: route", ("com.example.maps", "map"), ("api.map.example", "map"), "POST", "/route".into(), r#"{"from":{"lat":38.722252,"lon":-9.139337},"to":{"lat":41.157944,"lon":-8.629105},"mode":"car"}"#.into()),
        get("weather", ("com.miui.weather2", "location"), ("api.weather.example", "weather"), "/v1/now?lat=38.7223&lon=-9.1393&lang=pt".into()),
        get("news: feed", ("com.example.news", "news"), ("news.example", ""), format!("/feed?cursor={}&limit=20", URL_SAFE_NO_PAD.encode(r.bytes(48)))),
        sent("mail: send", ("com.example.mail", "mail"), ("mail.example", ""), "POST", "/v1/send".into(), r#"{"to":"b@example.org","subject":"My new phone","body":"Hi, the number is +351912345678 and the Wi-Fi is Lisboa-Home-5G. Bye"}"#.into()),
        sent("chat: message", ("com.example.chat", ""), ("chat.example", ""), "POST", "/rooms/12/messages".into(), r#"{"text":"call me on 912345678 or come by, Wi-Fi Lisboa-Home-5G"}"#.into()),
        sent("game: score", ("com.example.game", ""), ("game.example", ""), "POST", "/score".into(), format!(r#"{{"level":12,"score":{},"seed":"{}","match":"{}"}}"#, r.next() % 1_000_000, r.hex(16), r.uuid())),
        get("cdn: picture", shop, ("img.cdn.example", ""), format!("/i/{}.webp?Expires=1588294800&Signature={}&Key-Pair-Id={}", r.hex(40), URL_SAFE_NO_PAD.encode(r.bytes(96)), r.hex(14).to_uppercase())),
        sent("jwt refresh", shop, ("auth.shop.example", ""), "POST", "/refresh".into(), format!(r#"{{"refresh_token":"{}"}}"#, r.jwt())),
        sent("graphql", shop, api, "POST", "/graphql".into(), r#"{"operationName":"Home","query":"query Home($n:Int){feed(first:$n){id title url}}","variables":{"n":20}}"#.into()),
        sent("upload: base64", ("com.example.photos", ""), ("up.photos.example", ""), "POST", "/img".into(), format!(r#"{{"img":"{}"}}"#, URL_SAFE_NO_PAD.encode(r.bytes(3000)))),
        sent("sync: note", ("com.example.notes", ""), ("sync.notes.example", "sync"), "PUT", format!("/n/{}", r.uuid()), format!(r#"{{"rev":"{}","note":"buy milk, call +351912345678"}}"#, r.hex(32))),
        get("browser: page", ("org.mozilla.firefox", "browser"), ("clinic.example.org", ""), "/hiv-test?id=12&url=https%3A%2F%2Fother.example%2Fx".into()),
        get("browser: search", ("org.mozilla.firefox", "browser"), ("www.google.com", ""), "/search?q=divorce+lawyer+near+me&query=divorce&sourceid=android".into()),
        sent("browser: sign in", ("org.mozilla.firefox", "browser"), ("accounts.google.com", ""), "POST", "/signin".into(), "email=a%40b.example&password=secret&phone=%2B351912345678".into()),
        sent("account: sign in", ("com.xiaomi.account", "account"), ("account.xiaomi.com", ""), "POST", "/pass/serviceLoginAuth2".into(), format!("user=6012345678&hash={}&sid=passport&deviceId={}", r.hex(32).to_uppercase(), r.uuid())),
        sent("updater: check", ("com.android.updater", "update"), ("update.miui.com", ""), "POST", "/updates/miotaV3.php".into(), r#"{"d":"ginkgo","imei":"490154203237518","v":"V11.0.6.0"}"#.into()),
        sent("crash: own report", shop, ("crash.shop.example", ""), "POST", "/report".into(), format!(r#"{{"event":"crash","stack":"java.lang.NullPointerException at a.b(C.java:12)","install":"{}"}}"#, r.uuid())),
        sent("radio: play", ("com.example.radio", "music"), ("api.radio.example", ""), "POST", "/play".into(), r#"{"song":"Grandola Vila Morena","artist":"Zeca Afonso"}"#.into()),
        sent("bank: transfer", ("com.example.bank", ""), ("api.bank.example", ""), "POST", "/transfer".into(), format!(r#"{{"iban":"PT50{}","amount":"250.00","ref":"{}"}}"#, r.luhn(), r.luhn())),
        sent("own analytics: scroll", shop, api, "POST", "/t".into(), format!(r#"{{"event":"scroll","scroll_y":1200,"sid":"{}"}}"#, r.uuid())),
        sent("order numbers", shop, api, "POST", "/orders".into(), format!(r#"{{"ids":["{}","{}","{}"],"serial":"{}"}}"#, r.luhn(), r.luhn(), r.luhn(), r.hex(10))),
        sent("random form", shop, api, "POST", "/f".into(), format!("a={}&b={}&c={}", r.hex(32), r.hex(40), r.hex(64))),
        sent("zero ids", shop, api, "POST", "/a".into(), r#"{"gaid":"00000000-0000-0000-0000-000000000000","mac":"02:00:00:00:00:00","imei":"000000000000000","ssid":"<unknown ssid>"}"#.into()),
        sent("two app names", shop, api, "POST", "/deeplink".into(), r#"{"open":["com.whatsapp","org.mozilla.firefox"]}"#.into()),
        sent("tv schedule", shop, api, "POST", "/tv".into(), r#"{"serial":"Twin Peaks","mac":"macaroni","channel":"5"}"#.into()),
    ]
}
