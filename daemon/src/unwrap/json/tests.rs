//! The JSON reader beside serde_json, on cut texts and at its limits.

use super::*;

fn read(text: &str) -> Option<Parsed> {
    parse(text, &mut Budget::new(&Limits::default()))
}

/// As serde_json has it, numbers as their text.
fn convert(value: &serde_json::Value) -> Value {
    match value {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(b) => Value::Bool(*b),
        serde_json::Value::Number(n) => Value::Number(n.to_string().into()),
        serde_json::Value::String(s) => Value::Text(s.as_str().into()),
        serde_json::Value::Array(list) => Value::List(list.iter().map(convert).collect()),
        serde_json::Value::Object(map) => {
            Value::Map(map.iter().map(|(k, v)| (k.as_str().into(), convert(v))).collect())
        }
    }
}

const TEXT: &str = r#" {"a":[1,-2.5,0,true,false,null,[],{}],"long key of more than twenty-four bytes":
    "x\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00 é 漢","e":{"f":{"g":"12345678\"90"}},"h":1588291200000} "#;

#[test]
fn agrees_with_serde_json() {
    for text in [TEXT, "[]", "{}", "[[[]]]", r#"{"":""}"#, r#"["a","b\\",  "c" ]"#] {
        let expected = convert(&serde_json::from_str(text).unwrap());
        assert_eq!(read(text).unwrap(), Parsed { value: expected, count: 1, cut: None }, "{text}");
    }
}

#[test]
fn numbers_keep_their_text_and_keys_stay_double() {
    let text = r#"{"n":1.10,"n":-0.0,"n":1e400,"n":12345678901234567890123,"n":1E+2}"#;
    let Value::Map(members) = read(text).unwrap().value else { panic!() };
    let numbers: Vec<Value> = members.into_iter().map(|(_, value)| value).collect();
    let expected = ["1.10", "-0.0", "1e400", "12345678901234567890123", "1E+2"];
    assert_eq!(numbers, expected.map(|text| Value::Number(text.into())));
}

#[test]
fn half_a_surrogate_does_not_hide_the_rest() {
    let parsed = read(r#"{"a":"x\ud83d","b":"\ude00y","c":"\ud83dz","imei":"1"}"#).unwrap();
    let Value::Map(members) = parsed.value else { panic!() };
    let texts: Vec<Value> = members.into_iter().map(|(_, value)| value).collect();
    assert_eq!(texts, ["x\u{fffd}", "\u{fffd}y", "\u{fffd}z", "1"].map(|text| Value::Text(text.into())));
}

#[test]
fn cut_anywhere_gives_only_what_was_whole() {
    let whole = read(TEXT).unwrap().value;
    for end in (0..TEXT.trim_end().len()).filter(|end| TEXT.is_char_boundary(*end)) {
        if let Some(parsed) = read(&TEXT[..end]) {
            assert_eq!(parsed.cut, Some(Limits::CUT_SHORT), "{end}");
            assert!(within(&parsed.value, &whole), "{end}: {parsed:?}");
        }
    }
    assert!(read(r#"{"lat":38.7"#).is_none(), "a number at the end may go on");
}

/// Whether every leaf of `part` stands in `whole` at the same place.
fn within(part: &Value, whole: &Value) -> bool {
    match (part, whole) {
        (Value::Map(a), Value::Map(b)) => a.iter().zip(b).all(|(a, b)| a.0 == b.0 && within(&a.1, &b.1)),
        (Value::List(a), Value::List(b)) => a.iter().zip(b).all(|(a, b)| within(a, b)),
        (a, b) => a == b,
    }
}

#[test]
fn what_is_not_json_is_refused() {
    let texts = [
        "",
        "1",
        "true",
        "\"x\"",
        "{",
        "[",
        "{]",
        "[}",
        "[1 2]",
        "{\"a\" 1}",
        "{a:1}",
        "[1,]",
        "{\"a\":1,}",
        "[tag] x",
        "[1] x",
        "[01x]",
        "[1.]",
        "[.5]",
        "[1e]",
        "[--1]",
        "[\"\\x\"]",
        "[nul]",
        "{}x",
        "[NaN,x]",
    ];
    for text in texts {
        assert_eq!(read(text), None, "{text}");
    }
}

#[test]
fn limits_stop_depth_and_items_and_say_so() {
    let limits = Limits { items: 10, nesting: 3, ..Limits::default() };
    let parsed = parse("[1,2,3,4,5,6,7,8,9,10,11,12]", &mut Budget::new(&limits)).unwrap();
    assert_eq!(parsed.cut, Some(Limits::CUT_ITEMS));
    assert_eq!(parse("[[[[1]]]]", &mut Budget::new(&limits)), None, "nothing whole within the depth");
    let parsed = parse("[0,[[[1]]]]", &mut Budget::new(&limits)).unwrap();
    assert_eq!(parsed.cut, Some(Limits::CUT_ITEMS));
}
