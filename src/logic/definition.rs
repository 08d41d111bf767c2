//! Which names of a CustomResourceDefinition are its own, and what its conditions say.
//!
//! Source: apiextensions-apiserver `pkg/controller/{status,establish}`.
//! Invariants: names that were accepted are never taken by another definition of the group;
//! a definition that is established stays so until it goes.

use serde_json::{Value, json};

use super::conditions::condition;

const FIELDS: [&str; 4] = ["plural", "singular", "kind", "listKind"];

fn text<'v>(value: &'v Value, pointer: &str) -> &'v str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn texts<'v>(value: &'v Value, field: &str) -> Vec<&'v str> {
    value[field].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

/// Names of resources that the others of the group have, and names of kinds.
struct Taken<'v> {
    resources: Vec<&'v str>,
    kinds: Vec<&'v str>,
}

fn taken<'v>(definition: &Value, all: &[&'v Value]) -> Taken<'v> {
    let mut found = Taken { resources: Vec::new(), kinds: Vec::new() };
    let group = text(definition, "/spec/group");
    let own = text(definition, "/metadata/name");
    let others = all.iter().filter(|other| {
        text(other, "/spec/group") == group && text(other, "/metadata/name") != own
    });
    for other in others {
        let names = &other["status"]["acceptedNames"];
        found.resources.extend([text(names, "/plural"), text(names, "/singular")]);
        found.resources.extend(texts(names, "shortNames"));
        found.kinds.extend([text(names, "/kind"), text(names, "/listKind")]);
    }
    found
}

/// Whether a condition of the type is true.
pub fn holds(definition: &Value, kind: &str) -> bool {
    condition(definition, kind).is_some_and(|condition| condition["status"] == "True")
}

/// The definition with a condition set; its time changes with its status only.
pub fn with_condition(
    mut definition: Value,
    kind: &str,
    status: bool,
    reason: &str,
    message: &str,
    now: &str,
) -> Value {
    let status = if status { "True" } else { "False" };
    let held = condition(&definition, kind);
    let since = held.filter(|held| held["status"] == status);
    let since = since.map_or(now, |held| text(held, "/lastTransitionTime")).to_owned();
    let made = json!({"type": kind, "status": status, "lastTransitionTime": since,
        "reason": reason, "message": message});
    if !definition["status"]["conditions"].is_array() {
        definition["status"]["conditions"] = json!([]);
    }
    if let Some(conditions) = definition["status"]["conditions"].as_array_mut() {
        match conditions.iter_mut().find(|condition| condition["type"] == kind) {
            Some(place) => *place = made,
            None => conditions.push(made),
        }
    }
    definition
}

/// The definition with the status that it should have beside all others.
pub fn settled(definition: &Value, all: &[&Value], unenforced: &[String], now: &str) -> Value {
    let taken = taken(definition, all);
    let wanted = &definition["spec"]["names"];
    let before = &definition["status"]["acceptedNames"];
    let mut accepted = before.clone();
    let mut conflict = None;
    for field in FIELDS {
        let name = text(wanted, &format!("/{field}"));
        let others =
            if field.to_lowercase().contains("kind") { &taken.kinds } else { &taken.resources };
        if others.contains(&name) {
            let reason = format!("{}{}Conflict", field[..1].to_uppercase(), &field[1..]);
            conflict.get_or_insert((reason, format!("{name:?} is already in use")));
        } else {
            accepted[field] = name.into();
        }
    }
    let short = texts(wanted, "shortNames");
    let clashes: Vec<&&str> = short.iter().filter(|name| taken.resources.contains(*name)).collect();
    if clashes.is_empty() {
        let lists = [("shortNames", short), ("categories", texts(wanted, "categories"))];
        for (list, names) in lists {
            if names.is_empty() {
                accepted.as_object_mut().map(|fields| fields.shift_remove(list));
            } else {
                accepted[list] = names.into();
            }
        }
    } else {
        let list: Vec<String> =
            clashes.iter().map(|name| format!("{name:?} is already in use")).collect();
        let list = if list.len() == 1 { list.concat() } else { format!("[{}]", list.join(", ")) };
        conflict.get_or_insert(("ShortNamesConflict".to_owned(), list));
    }
    let mut next = definition.clone();
    next["status"]["acceptedNames"] = accepted;
    let (fits, reason, message) = match &conflict {
        None => (true, "NoConflicts", "no conflicts found"),
        Some((reason, message)) => (false, reason.as_str(), message.as_str()),
    };
    next = with_condition(next, "NamesAccepted", fits, reason, message, now);
    let (reason, message) = ("InitialNamesAccepted", "the initial names have been accepted");
    if fits {
        next = with_condition(next, "Established", true, reason, message, now);
    } else if condition(&next, "Established").is_none() {
        next = with_condition(
            next,
            "Established",
            false,
            "NotAccepted",
            "not all names are accepted",
            now,
        );
    }
    if !unenforced.is_empty() {
        let (kind, reason) = ("ValidationRulesEnforced", "ExpressionsNotEvaluated");
        return with_condition(next, kind, false, reason, &unenforced.join("; "), now);
    }
    if let Some(conditions) = next["status"]["conditions"].as_array_mut() {
        conditions.retain(|condition| condition["type"] != "ValidationRulesEnforced");
    }
    next
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition(plural: &str, kind: &str, short: &[&str]) -> Value {
        json!({"metadata": {"name": format!("{plural}.example.com")},
            "spec": {"group": "example.com", "names": {"plural": plural, "kind": kind,
                "singular": kind.to_lowercase(), "listKind": format!("{kind}List"), "shortNames": short}},
            "status": {"acceptedNames": {"plural": "", "kind": ""}, "conditions": []}})
    }

    #[test]
    fn a_definition_alone_is_established() {
        let alone = definition("widgets", "Widget", &["wd"]);
        let next = settled(&alone, &[&alone], &[], "2026-01-01T00:00:00Z");
        assert!(holds(&next, "NamesAccepted") && holds(&next, "Established"), "{next}");
        assert_eq!(next["status"]["acceptedNames"], next["spec"]["names"]);
        // Later nothing changes, not even the time.
        assert_eq!(settled(&next, &[&next], &[], "2027-01-01T00:00:00Z"), next);
    }

    #[test]
    fn names_of_others_are_refused_and_given_when_they_go() {
        let first = definition("widgets", "Widget", &["wd"]);
        let first = settled(&first, &[&first], &[], "t");
        for (plural, kind, short, reason, message) in [
            ("gadgets", "Widget", &[][..], "KindConflict", "\"Widget\" is already in use"),
            ("gadgets", "Gadget", &["wd"], "ShortNamesConflict", "\"wd\" is already in use"),
            ("wd", "Gadget", &[], "PluralConflict", "\"wd\" is already in use"),
        ] {
            let mut second = definition(plural, kind, short);
            if reason == "KindConflict" {
                second["spec"]["names"]["singular"] = "gadget".into();
                second["spec"]["names"]["listKind"] = "GadgetList".into();
            }
            let refused = settled(&second, &[&first, &second], &[], "t");
            let said = condition(&refused, "NamesAccepted").unwrap();
            assert_eq!((&said["reason"], &said["message"]), (&reason.into(), &message.into()));
            assert_eq!(condition(&refused, "Established").unwrap()["reason"], "NotAccepted");
            let later = settled(&refused, &[&refused], &[], "t");
            assert!(holds(&later, "Established"), "{later}");
        }
    }

    #[test]
    fn what_is_not_enforced_is_said() {
        let own = definition("widgets", "Widget", &[]);
        let next = settled(&own, &[&own], &["2 rules of version v1".into()], "t");
        let said = condition(&next, "ValidationRulesEnforced").unwrap();
        assert_eq!(
            (&said["status"], &said["message"]),
            (&"False".into(), &"2 rules of version v1".into())
        );
        let without = settled(&next, &[&next], &[], "t");
        assert!(condition(&without, "ValidationRulesEnforced").is_none());
    }
}
