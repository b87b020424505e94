//! Bodies as phones send them, composed anew in every run from the same seed: what repeats in a real batch repeats (names, the
//! properties common to all events), and what does not (addresses, titles, times, tokens) is drawn from noise, so that gzip shrinks
//! them about as much as it shrinks the samples.

use std::{fmt::Write as _, io::Write as _};

/// xorshift64: the same in every run.
pub(crate) struct Noise(u64);

impl Noise {
    pub(crate) fn new(seed: u64) -> Noise {
        Noise(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() >> 16) as usize % end.max(1)
    }

    pub(crate) fn pick<'t>(&mut self, from: &[&'t str]) -> &'t str {
        let at = self.below(from.len());
        from.get(at).copied().unwrap_or_default()
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| (self.next() >> 32) as u8).collect()
    }

    /// Some words of a sentence, the first in upper case.
    pub(crate) fn words(&mut self, count: usize) -> String {
        let mut text = String::new();
        for index in 0..count {
            let word = self.pick(WORDS);
            if index > 0 {
                text.push(' ');
                text.push_str(word);
            } else {
                text.extend(word.chars().take(1).map(|c| c.to_ascii_uppercase()).chain(word.chars().skip(1)));
            }
        }
        text
    }

    /// The words of a title as an address has them.
    fn slug(&mut self, count: usize) -> String {
        self.words(count).to_lowercase().replace(' ', "-")
    }

    fn hex(&mut self, digits: usize) -> String {
        let text = format!("{:016x}{:016x}", self.next(), self.next());
        text.get(..digits).unwrap_or_default().to_owned()
    }
}

const WORDS: &[&str] = &[
    "about",
    "after",
    "again",
    "airport",
    "album",
    "answer",
    "april",
    "autumn",
    "battery",
    "before",
    "best",
    "better",
    "between",
    "bicycle",
    "border",
    "bread",
    "bridge",
    "building",
    "camera",
    "castle",
    "central",
    "change",
    "cheap",
    "children",
    "cinema",
    "city",
    "clothes",
    "coast",
    "coffee",
    "concert",
    "country",
    "court",
    "culture",
    "dance",
    "doctor",
    "dream",
    "early",
    "east",
    "economy",
    "election",
    "engine",
    "evening",
    "fashion",
    "festival",
    "field",
    "finance",
    "first",
    "flight",
    "football",
    "forest",
    "free",
    "friend",
    "future",
    "garden",
    "ginger",
    "government",
    "guide",
    "harbour",
    "health",
    "history",
    "holiday",
    "hospital",
    "hotel",
    "house",
    "island",
    "january",
    "journey",
    "kitchen",
    "language",
    "league",
    "letter",
    "library",
    "light",
    "lisbon",
    "market",
    "match",
    "medicine",
    "minister",
    "money",
    "morning",
    "mountain",
    "museum",
    "music",
    "nature",
    "near",
    "news",
    "night",
    "north",
    "number",
    "ocean",
    "office",
    "opera",
    "orange",
    "park",
    "people",
    "phone",
    "picture",
    "player",
    "police",
    "porto",
    "price",
    "prime",
    "railway",
    "recipe",
    "record",
    "river",
    "road",
    "salad",
    "school",
    "science",
    "season",
    "shoes",
    "show",
    "simple",
    "soup",
    "south",
    "spring",
    "station",
    "storm",
    "story",
    "street",
    "summer",
    "team",
    "theatre",
    "ticket",
    "today",
    "tomorrow",
    "tower",
    "town",
    "traffic",
    "train",
    "travel",
    "under",
    "university",
    "village",
    "vote",
    "water",
    "weather",
    "week",
    "west",
    "winter",
    "women",
    "world",
    "writer",
    "year",
    "young",
];
const SITES: &[&str] = &[
    "www.publico.example",
    "news.example.org",
    "shop.example.com",
    "m.video.example",
    "forum.example.net",
    "en.wiki.example",
    "recipes.example",
    "www.tickets.example",
    "mail.example.com",
    "maps.example.org",
    "clinic.example.pt",
    "bank.example.pt",
];

pub(crate) fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    let _ = encoder.write_all(data);
    encoder.finish().unwrap_or_default()
}

/// A Sensors batch as the Android SDK 3.2.10 of a browser writes it, `events` events long: pages, searches, news, taps, starts.
pub(crate) fn sensors(events: usize, seed: u64) -> String {
    let mut noise = Noise::new(seed);
    let mut json = String::from("[");
    let mut time = 1_588_291_200_000_u64;
    for event in 0..events {
        time += 300 + noise.next() % 90_000;
        let track = noise.next() as u32 as i32;
        let (site, page) = (noise.pick(SITES), noise.below(99_999_999));
        let (name, method, fields) = match noise.below(8) {
            0 => (
                "search",
                "code",
                format!(
                    r#""search_word":"{}","search_engine":"google","search_method":"{}","search_position":"{}""#,
                    noise.words(3).to_lowercase(),
                    noise.pick(&["input", "suggest", "history", "hotword"]),
                    noise.pick(&["homepage", "webpage", "notification"]),
                ),
            ),
            1 => (
                "$AppEnd",
                "autoTrack",
                format!(
                    r#""event_duration":{}.{:03},"$screen_name":"com.android.browser.BrowserActivity","$title":"Mint Browser""#,
                    noise.below(900),
                    noise.below(1000),
                ),
            ),
            2 => (
                "imp_news_feed",
                "code",
                format!(
                    r#""item_id":"{}","item_type":"{}","item_position":{},"channel":"{}","title":"{}","cp":"{}","is_cache":{}"#,
                    noise.hex(24),
                    noise.pick(&["article", "video", "gallery"]),
                    noise.below(40),
                    noise.pick(&["For you", "Sport", "World", "Film"]),
                    noise.words(7),
                    noise.pick(&["opera", "taboola", "mgid", "own"]),
                    noise.pick(&["true", "false"]),
                ),
            ),
            3 => (
                "click_toolbar",
                "code",
                format!(
                    r#""element":"{}","tab_count":{},"private_mode":false"#,
                    noise.pick(&["tabs", "menu", "home", "back", "bookmark", "share"]),
                    noise.below(12),
                ),
            ),
            other => (
                if other % 2 == 0 { "page_load_event_start" } else { "page_load_event_finish" },
                "code",
                format!(
                    r#""url":"https:\/\/{site}\/{}\/{}-{page}?ref={}&s={}","title":"{}","load_time":{},"resource_count":{},"from":"{}""#,
                    noise.pick(&["read", "a", "item", "video", "topic"]),
                    noise.slug(4),
                    noise.pick(&["home", "feed", "push", "search"]),
                    noise.hex(10),
                    noise.words(6),
                    noise.below(9000),
                    noise.below(140),
                    noise.pick(&["link", "input", "bookmark", "history"]),
                ),
            ),
        };
        let _ = write!(
            json,
            r#"{}{{"_track_id":{track},"time":{time},"type":"track","distinct_id":"a5edad80-d9d1-4c54-aa77-739dc3d2bee8","lib":{{"$lib":"Android","$lib_version":"3.2.10","$app_version":"3.4.0","$lib_method":"{method}","$lib_detail":"a.b.C##d##C.java##{}"}},"event":"{name}","properties":{{"$lib":"Android","$os_version":"9","$device_id":"9f3c2b7a1d4e5f60","$model":"Redmi Note 8","$os":"Android","$screen_width":1080,"$screen_height":2130,"$manufacturer":"Xiaomi","$brand":"xiaomi","$app_version":"3.4.0","$lib_version":"3.2.10","$carrier":"Vodafone","$wifi":{},"$network_type":"{}","$is_first_day":false,"uuid":"a5edad80-d9d1-4c54-aa77-739dc3d2bee8","internet_status":"{}","platform":"AndroidApp","miui_version":"V11.0.6.0","miui_region":"PT","system_language":"en_GB","app_launch_way":"{}","session_id":"{}",{fields}}},"_flush_time":{}}}"#,
            if event == 0 { "" } else { "," },
            20 + noise.below(900),
            noise.pick(&["true", "true", "false"]),
            noise.pick(&["WIFI", "WIFI", "4G"]),
            noise.pick(&["wifi", "wifi", "mobile"]),
            noise.pick(&["icon", "push", "third_party"]),
            noise.hex(16),
            time + 900,
        );
    }
    json.push(']');
    json
}

/// What OneTrack sends in clear text, gathered from several apps: a list of { H: about the phone, B: what happened }.
pub(crate) fn onetrack(events: usize, seed: u64) -> String {
    let mut noise = Noise::new(seed);
    let mut json = String::from("[");
    let mut time = 1_588_291_200_000_u64;
    for event in 0..events {
        time += 200 + noise.next() % 30_000;
        let app = noise.pick(&[
            "com.android.settings",
            "com.miui.player",
            "com.miui.home",
            "com.android.fileexplorer",
            "com.miui.gallery",
        ]);
        let (name, body) = match noise.below(4) {
            0 => (
                "onetrack_pa",
                format!(
                    r#""type":{},"class":"{app}.{}Activity","duration":{}"#,
                    1 + noise.below(2),
                    noise.pick(&["Main", "WifiSettings", "Detail", "Search", "Playlist"]),
                    noise.below(60_000),
                ),
            ),
            1 => (
                "play",
                format!(
                    r#""song":"{}","artist":"{}","album_id":"{}","position_ms":{},"quality":"{}""#,
                    noise.words(3),
                    noise.words(2),
                    noise.hex(12),
                    noise.below(300_000),
                    noise.pick(&["128k", "320k", "flac"]),
                ),
            ),
            2 => (
                "folder_open",
                format!(
                    r#""folder":"{}","items":{},"screen":{}"#,
                    noise.words(2),
                    noise.below(20),
                    noise.below(5)
                ),
            ),
            _ => (
                "click",
                format!(
                    r#""element_name":"{}","page":"{}","tip":"{}.{}.{}.{}","elapsed":{}"#,
                    noise.slug(2),
                    noise.slug(1),
                    noise.below(999),
                    noise.below(99),
                    noise.below(99),
                    noise.below(99_999),
                    noise.below(90_000),
                ),
            ),
        };
        let _ = write!(
            json,
            r#"{}{{"H":{{"event":"{name}","imei":"0eaed834a1e6f4b2bf0c024e0013dea1","oaid":"a1b2c3d4e5f60718","gaid":"3b6d7f2a-91c4-4e0b-8a57-6c1d2e3f4a5b","android_id":"9f3c2b7a1d4e5f60","instance_id":"fc704e6b-13c4-4b26-af5e-411f75da84f2","mfrs":"Xiaomi","model":"Redmi Note 8","platform":"Android","miui":"V11.0.6.0","build":"S","os_ver":"9","app_ver":"{}.{}.{}","e_ts":{time},"tz":"GMT+01:00","net":"{}","region":"PT","app_id":"3100000{:04}","pkg":"{app}","sdk_ver":"1.1.2","sid":"{}"}},"B":{{{body}}}}}"#,
            if event == 0 { "" } else { "," },
            noise.below(9),
            noise.below(30),
            noise.below(9),
            noise.pick(&["WIFI", "WIFI", "4G"]),
            noise.below(60),
            noise.hex(16),
        );
    }
    json.push(']');
    json
}

/// What a measuring library of no known vendor sends from a shop's app.
pub(crate) fn unknown(events: usize, seed: u64) -> String {
    let mut noise = Noise::new(seed);
    let mut json = String::from(
        r#"{"schema":"5.1","device":{"os":"Android","osVersion":"9","maker":"Xiaomi","model":"Redmi Note 8","locale":"pt_PT","timezone":"Europe/Lisbon","density":2.75},"app":{"name":"Shop","version":"8.14.2","build":81402},"batch":["#,
    );
    let mut time = 1_588_291_200_000_u64;
    for event in 0..events {
        time += 50 + noise.next() % 40_000;
        let _ = write!(
            json,
            r#"{}{{"id":"{}-{}","ts":{time},"name":"{}","session":{{"index":{},"started":{}}},"attributes":{{"sku":"{}","price":{}.{:02},"currency":"EUR","list":"{}","position":{},"name":"{}","experiment":["{}","{}"]}},"latency":{}}}"#,
            if event == 0 { "" } else { "," },
            noise.hex(8),
            noise.hex(12),
            noise.pick(&["view_item", "add_to_cart", "view_list", "select_item", "scroll"]),
            1 + noise.below(3),
            time - 40_000,
            noise.below(99_999_999),
            noise.below(400),
            noise.below(100),
            noise.pick(&["home", "search", "category", "similar"]),
            noise.below(60),
            noise.words(5),
            noise.pick(&["exp_12_a", "exp_12_b"]),
            noise.pick(&["exp_31_control", "exp_31_new"]),
            noise.below(1500),
        );
    }
    json.push_str("]}");
    json
}

/// What a shop's or a news app's own server is asked and told: nothing of the phone in it.
pub(crate) fn api_json(items: usize, seed: u64) -> String {
    let mut noise = Noise::new(seed);
    let mut json = String::from(r#"{"cart":["#);
    for item in 0..items {
        let _ = write!(
            json,
            r#"{}{{"sku":"{}","name":"{}","price":{}.{:02},"count":{},"image":"https://img.example.com/{}/{}.webp","note":"{}"}}"#,
            if item == 0 { "" } else { "," },
            8_712_345_000_000_usize + noise.below(99_999_999),
            noise.words(4),
            noise.below(300),
            noise.below(100),
            1 + noise.below(5),
            noise.hex(2),
            noise.hex(20),
            noise.words(9),
        );
    }
    let signature = noise.hex(32);
    let _ =
        write!(json, r#"],"currency":"EUR","token":"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiI0MiJ9.{signature}"}}"#);
    json
}

/// A page as an editor saves it.
pub(crate) fn html(paragraphs: usize, seed: u64) -> String {
    let mut noise = Noise::new(seed);
    let mut page = String::from(
        "<!DOCTYPE html><html><head><meta charset=\"utf-8\"><title>Draft</title></head><body>\n",
    );
    for number in 0..paragraphs {
        let _ = writeln!(
            page,
            "<div class=\"post post-{number}\"><h2><a href=\"https://{}/{}\">{}</a></h2><p>{}. {}, <em>{}</em> &amp; {}.</p><br></div>",
            noise.pick(SITES),
            noise.slug(3),
            noise.words(5),
            noise.words(14),
            noise.words(9),
            noise.words(2),
            noise.words(11),
        );
    }
    page.push_str("</body></html>\n");
    page
}

/// Protocol Buffers: a list of records with a number, a name, a double and a nested time.
pub(crate) fn protobuf(records: usize, seed: u64) -> Vec<u8> {
    fn field(out: &mut Vec<u8>, number: u8, data: &[u8]) {
        out.push(number << 3 | 2);
        varint(out, data.len() as u64);
        out.extend_from_slice(data);
    }
    fn varint(out: &mut Vec<u8>, mut number: u64) {
        while number > 0x7f {
            out.push(number as u8 | 0x80);
            number >>= 7;
        }
        out.push(number as u8);
    }
    let mut noise = Noise::new(seed);
    let mut all = Vec::new();
    for _ in 0..records {
        let mut record = vec![1 << 3];
        varint(&mut record, noise.next() >> 30);
        field(&mut record, 2, noise.words(3).as_bytes());
        record.push(3 << 3 | 1);
        record.extend((noise.below(100_000) as f64 / 100.0).to_le_bytes());
        let mut time = vec![1 << 3];
        varint(&mut time, 1_588_291_200 + noise.next() % 100_000);
        field(&mut record, 4, &time);
        field(&mut record, 5, format!("{}.png", noise.slug(2)).as_bytes());
        field(&mut all, 1, &record);
    }
    all
}

/// A photo: what matters is the magic and that the rest is as dense as noise.
pub(crate) fn photo(len: usize, seed: u64) -> Vec<u8> {
    let mut jpeg = b"\xff\xd8\xff\xe0\0\x10JFIF\0\x01".to_vec();
    jpeg.extend(Noise::new(seed).bytes(len));
    jpeg
}

/// A form with a picture in it.
pub(crate) fn multipart(boundary: &str, picture: &[u8]) -> Vec<u8> {
    let mut body = format!(
        "--{boundary}\r\nContent-Disposition: form-data; name=\"title\"\r\n\r\nSunday at the sea\r\n--{boundary}\r\nContent-Disposition: form-data; name=\"photo\"; filename=\"IMG_20200501.jpg\"\r\nContent-Type: image/jpeg\r\n\r\n"
    )
    .into_bytes();
    body.extend_from_slice(picture);
    body.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
    body
}
