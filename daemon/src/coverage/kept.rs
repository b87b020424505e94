//! The ledger on paper: one JSON object that `telltale report` and a case show later, and that the next run adds to.

use serde_json::{Map, Value, json};

use super::{Parts, Reason, View, ViewedApp};

/// Apps written; the others become one.
const APPS: usize = 100;
/// Destinations written of each app, those with the most unread bytes.
const DESTINATIONS: usize = 4;
/// What stands for apps that are not written one by one.
const OTHERS: &str = "others";

impl Parts {
    /// `bytes` is the whole, of which `read`, `tls_overhead` and `unread` are the parts.
    pub fn to_json(&self) -> Map<String, Value> {
        let unread: Map<String, Value> = self
            .reasons()
            .into_iter()
            .map(|(reason, bytes)| (reason.name().to_owned(), bytes.into()))
            .collect();
        let mut object = Map::new();
        object.insert("bytes".into(), self.whole().into());
        object.insert("read".into(), self.read.into());
        object.insert("tls_overhead".into(), self.tls_overhead.into());
        object.insert("unread".into(), unread.into());
        object
    }

    /// What [`Parts::to_json`] wrote; what is missing or of another kind counts as nothing.
    pub fn from_json(object: &Map<String, Value>) -> Parts {
        let number = |object: &Map<String, Value>, name: &str| {
            object.get(name).and_then(Value::as_u64).unwrap_or_default()
        };
        let mut parts = Parts::read(number(object, "read"));
        parts.tls_overhead = number(object, "tls_overhead");
        if let Some(unread) = object.get("unread").and_then(Value::as_object) {
            for reason in Reason::ALL {
                parts.add_unread(reason, number(unread, reason.name()));
            }
        }
        parts
    }
}

impl View {
    /// For keeping: `type` is `coverage`, `since` and `time` are RFC 3339; `label` gives an app's name for people.
    pub fn to_json(
        &self,
        since: &str,
        time: &str,
        label: impl Fn(&ViewedApp) -> String,
    ) -> Map<String, Value> {
        let mut others = Parts::default();
        self.apps.iter().skip(APPS).for_each(|app| others.add(&app.parts));
        let mut apps: Vec<Value> = self
            .apps
            .iter()
            .take(APPS)
            .map(|app| {
                let mut object = app.parts.to_json();
                let destinations = app.destinations.iter().take(DESTINATIONS).map(|(name, parts)| {
                    let mut one = parts.to_json();
                    one.insert("destination".into(), name.as_str().into());
                    Value::Object(one)
                });
                object.insert("destinations".into(), destinations.collect());
                object.insert("app".into(), app.app.as_str().into());
                object.insert("label".into(), label(app).into());
                object.insert("uid".into(), app.uid.into());
                object.into()
            })
            .collect();
        if others.whole() > 0 {
            let mut object = others.to_json();
            object.insert("app".into(), OTHERS.into());
            object.insert("uid".into(), u32::MAX.into());
            apps.push(object.into());
        }
        let record = json!({ "type": "coverage", "since": since, "time": time, "apps": apps });
        if let Value::Object(record) = record { record } else { Map::new() }
    }

    /// What [`View::to_json`] wrote; what cannot be read of it is left out.
    pub fn from_json(record: &Map<String, Value>) -> View {
        let text = |object: &Map<String, Value>, name: &str| {
            object.get(name).and_then(Value::as_str).map(str::to_owned).filter(|text| text.len() <= 512)
        };
        let mut view = View::default();
        let rows = record.get("apps").and_then(Value::as_array);
        for row in rows.into_iter().flatten().filter_map(Value::as_object).take(APPS.saturating_add(1)) {
            let (Some(app), Some(uid)) = (text(row, "app"), row.get("uid").and_then(Value::as_u64)) else {
                continue;
            };
            let parts = Parts::from_json(row);
            let listed = row.get("destinations").and_then(Value::as_array).into_iter().flatten();
            let destinations = listed
                .take(DESTINATIONS)
                .filter_map(Value::as_object)
                .filter_map(|one| Some((text(one, "destination")?, Parts::from_json(one))))
                .collect();
            view.total.add(&parts);
            view.apps.push(ViewedApp {
                app,
                uid: u32::try_from(uid).unwrap_or(u32::MAX),
                parts,
                destinations,
            });
        }
        view
    }

    /// Adds what another run counted.
    pub fn add(&mut self, other: &View) {
        self.total.add(&other.total);
        for app in &other.apps {
            let Some(own) = self.apps.iter_mut().find(|own| own.app == app.app && own.uid == app.uid) else {
                self.apps.push(app.clone());
                continue;
            };
            own.parts.add(&app.parts);
            for (name, parts) in &app.destinations {
                match own.destinations.iter_mut().find(|(own, _)| own == name) {
                    Some((_, own)) => own.add(parts),
                    None => own.destinations.push((name.clone(), *parts)),
                }
            }
            own.destinations.sort_by_key(|(_, parts)| std::cmp::Reverse((parts.all_unread(), parts.whole())));
        }
        self.apps.sort_by_key(|app| std::cmp::Reverse((app.parts.all_unread(), app.parts.whole())));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(apps: usize, read: u64) -> View {
        let mut view = View::default();
        for at in 0..apps {
            let mut parts = Parts::read(read);
            parts.tls_overhead = 5;
            parts.add_unread(Reason::Quic, at as u64);
            view.total.add(&parts);
            let destinations = vec![("a.example".to_owned(), parts)];
            view.apps.push(ViewedApp { app: format!("app{at}"), uid: at as u32, parts, destinations });
        }
        view.apps.reverse();
        view
    }

    fn written(view: &View) -> Map<String, Value> {
        let record =
            view.to_json("2026-11-21T09:00:00Z", "2026-11-21T10:00:00Z", |app| format!("The {}", app.app));
        serde_json::from_str(&Value::Object(record).to_string()).unwrap()
    }

    #[test]
    fn what_is_written_is_read_again() {
        let record = written(&view(3, 10));
        assert_eq!(View::from_json(&record), view(3, 10));
        assert_eq!(record["apps"][0]["label"], "The app2");
        assert_eq!(record["since"], "2026-11-21T09:00:00Z");
    }

    #[test]
    fn nothing_is_lost_beyond_the_apps_that_are_named() {
        let many = view(APPS + 20, 10);
        let read = View::from_json(&written(&many));
        assert_eq!((read.apps.len(), read.total), (APPS + 1, many.total));
    }

    #[test]
    fn runs_add_up() {
        let mut sum = view(2, 10);
        sum.add(&view(3, 1));
        assert_eq!(sum.apps.iter().map(|app| app.parts.read).collect::<Vec<_>>(), [11, 1, 11]);
        assert_eq!((sum.total.read, sum.total.all_unread()), (23, 4));
        assert_eq!(sum.apps[0].destinations[0].1.read, 11);
    }

    #[test]
    fn damage_is_left_out() {
        for text in ["{}", r#"{"apps":7}"#, r#"{"apps":[1,{},{"app":"a"},{"app":"a","uid":-1}]}"#] {
            assert_eq!(View::from_json(&serde_json::from_str(text).unwrap()), View::default(), "{text}");
        }
        let odd = r#"{"apps":[{"app":"a","uid":7,"read":"x","unread":[],"destinations":{}}]}"#;
        assert_eq!(View::from_json(&serde_json::from_str(odd).unwrap()).total, Parts::default());
    }
}
