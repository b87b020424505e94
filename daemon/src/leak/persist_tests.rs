//! The memory of tokens, over restarts, days, resets and apps.

use super::{
    Context, Crypt, Data, Detector, Finding, Kind, Severity, Truth, Witness,
    persist::{MAX_PLACES, Store, StoreError},
    testing::Case,
};

const TOKEN: &str = "54db829f-0942-4caa-a69f-7fb9350fa48d";
const DAY: u64 = 86_400_000;

struct Phone {
    store: Store,
    detector: Detector,
}

impl Phone {
    fn new() -> Phone {
        let detector = Detector::new(&Truth::default(), Data::built_in().unwrap());
        Phone { store: Store::new(), detector }
    }

    fn sends(&mut self, mut case: Case, pid: u32, now_ms: u64) -> Vec<Finding> {
        case.app.pid = pid;
        let context = Context { app: &case.app, host: Some(&case.host), crypt: Crypt::Tls, now_ms };
        let mut findings = self.detector.examine(&context, &case.message, &case.tree);
        self.detector.remember(&mut self.store, &context, &case.message, &case.tree, &mut findings);
        findings
    }

    fn reboots(&mut self) {
        self.store = Store::from_bytes(&self.store.to_bytes()).unwrap();
    }
}

fn with(token: &str) -> Case {
    Case::new().json(&format!(r#"{{"list":[{{"install":"{token}"}}]}}"#))
}

#[test]
fn a_token_that_outlives_starts_and_days_is_told() {
    let mut phone = Phone::new();
    assert!(phone.sends(with(TOKEN), 1, 0).is_empty());
    assert!(phone.sends(with(TOKEN), 1, 1000).is_empty());
    for start in 2..15 {
        phone.reboots();
        phone.sends(with(TOKEN), start, u64::from(start) * DAY / 2);
    }
    let findings = phone.sends(with(TOKEN), 14, 9 * DAY);
    assert_eq!(findings.len(), 1);
    let found = &findings[0];
    assert_eq!(
        (found.kind, found.by, found.value.as_str()),
        (Kind::PersistentId, Witness::Persistence, TOKEN)
    );
    assert!(found.why.starts_with("unchanged for 9 days, 14 starts"), "{}", found.why);
    assert_eq!((found.severity, found.at.as_str()), (Severity::Info, "list[0].install"));
    let ads = |case: Case| case.to("ads.example", Some("ads"));
    for start in 1..4 {
        phone.sends(ads(with(TOKEN)), start, 0);
    }
    assert_eq!(phone.sends(ads(with(TOKEN)), 9, DAY)[0].severity, Severity::Warn);
}

#[test]
fn runs_count_as_starts_where_no_process_is_known() {
    let mut phone = Phone::new();
    phone.sends(with(TOKEN), 0, 0);
    assert!(phone.sends(with(TOKEN), 0, 0).is_empty());
    phone.reboots();
    assert!(phone.sends(with(TOKEN), 0, 5)[0].why.starts_with("unchanged for 0 days, 2 starts"));
}

#[test]
fn a_reset_is_noticed() {
    let mut phone = Phone::new();
    for start in 1..4 {
        phone.sends(with(TOKEN), start, u64::from(start) * DAY);
    }
    let findings = phone.sends(with("11db829f-0942-4caa-a69f-7fb9350fa411"), 9, 9 * DAY);
    assert!(
        findings[0]
            .why
            .contains("new id after reinstall or reset: one ending in a48d stood here for 2 days, 3 starts"),
        "{}",
        findings[0].why
    );
}

#[test]
fn what_changes_all_the_time_is_no_identifier() {
    let mut phone = Phone::new();
    for number in 0..30_u64 {
        let token = format!("{:08x}-0942-4caa-a69f-7fb9350fa48d", number * 77_777_777);
        let findings = phone.sends(with(&token), 1 + (number / 5) as u32, number * DAY);
        assert!(findings.is_empty(), "{number}: {findings:?}");
    }
}

#[test]
fn the_same_token_from_two_apps_to_one_owner_is_the_gravest() {
    let mut phone = Phone::new();
    phone.sends(with(TOKEN), 1, 0);
    let elsewhere = phone.sends(with(TOKEN).from("com.example.other", None).to("other.example", None), 2, 0);
    assert!(elsewhere.is_empty(), "another owner: {elsewhere:?}");
    let mut other = with(TOKEN);
    other.app.name = "com.example.radio".into();
    let findings = phone.sends(other, 2, 0);
    assert_eq!(findings[0].severity, Severity::Warn);
    assert!(findings[0].why.contains("com.example.game"), "{}", findings[0].why);
}

#[test]
fn a_finding_that_names_the_token_is_continued_not_repeated() {
    let mut phone = Phone::new();
    let sensors = || {
        Case::new().json(&format!(r#"[{{"event":"x","distinct_id":"{TOKEN}"}}]"#)).telemetry("sensors_form")
    };
    phone.sends(sensors(), 1, 0);
    let findings = phone.sends(sensors(), 2, DAY);
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert_eq!(findings[0].by, Witness::Dictionary);
    assert!(findings[0].why.contains("unchanged for 1 day, 2 starts"), "{}", findings[0].why);
}

#[test]
fn the_store_is_bounded_and_holds_no_token() {
    let mut phone = Phone::new();
    for number in 0..MAX_PLACES as u64 + 100 {
        let token = format!("{:08x}-0942-4caa-a69f-7fb9350fa48d", number * 777_777);
        let case = Case::new().field("query", &format!("f{number}"), &token);
        phone.sends(case, 1, number);
    }
    assert!(phone.store.len() <= MAX_PLACES && phone.store.len() > MAX_PLACES / 2);
    let bytes = phone.store.to_bytes();
    assert!(bytes.len() < MAX_PLACES * 160, "{}", bytes.len());
    assert!(!bytes.windows(9).any(|window| window == b"7fb9350fa"));
    let back = Store::from_bytes(&bytes).unwrap();
    assert_eq!(back.len(), phone.store.len());
}

#[test]
fn damaged_bytes_are_refused_at_every_length_and_every_bit() {
    let mut phone = Phone::new();
    phone.sends(with(TOKEN), 1, 0);
    let bytes = phone.store.to_bytes();
    assert_eq!(Store::from_bytes(b"something"), Err(StoreError::NotOurs));
    for end in 0..bytes.len() {
        assert!(Store::from_bytes(&bytes[..end]).is_err(), "{end}");
    }
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        assert!(Store::from_bytes(&changed).is_err(), "{at}");
    }
}
