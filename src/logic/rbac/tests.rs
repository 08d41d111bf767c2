//! The decision against a table, and against what must hold for any rights.

use proptest::collection::vec;
use proptest::prelude::*;

use super::{Asked, Binding, Rights, Who, not_covered, rule_allows};
use crate::model::rbac::{RoleRef, Rule, Subject};

fn subject(kind: &str, name: &str, namespace: &str) -> Subject {
    Subject {
        kind: kind.into(),
        name: name.into(),
        namespace: namespace.into(),
        ..Subject::default()
    }
}

fn role(kind: &str, name: &str) -> RoleRef {
    RoleRef { kind: kind.into(), name: name.into(), ..RoleRef::default() }
}

fn binding(subject: Subject, role: RoleRef) -> Option<Binding> {
    Some(Binding { subjects: vec![subject], role })
}

fn table() -> Rights {
    let mut rights = Rights::default();
    let read = Rule::resources(&["get", "list"], &[""], &["pods", "pods/log"]);
    rights.set_role("", "reader", Some(vec![read]));
    rights.set_role("", "everything", Some(Rule::all().to_vec()));
    let scale = Rule::resources(&["update"], &["apps"], &["*/scale"]);
    rights.set_role("", "scaler", Some(vec![scale]));
    rights.set_role("", "urls", Some(vec![Rule::urls(&["get"], &["/metrics", "/logs/*"])]));
    let one = Rule::resources(&["get"], &[""], &["configmaps"]).named(&["own"]);
    rights.set_role("shop", "own-map", Some(vec![one]));
    rights.set_binding(
        "shop",
        "a",
        binding(subject("User", "jane", ""), role("ClusterRole", "reader")),
    );
    rights.set_binding(
        "shop",
        "b",
        binding(subject("ServiceAccount", "web", ""), role("Role", "own-map")),
    );
    rights.set_binding("shop", "c", binding(subject("User", "lost", ""), role("Role", "absent")));
    rights.set_binding(
        "shop",
        "d",
        binding(subject("Group", "urls", ""), role("ClusterRole", "urls")),
    );
    rights.set_binding(
        "",
        "e",
        binding(subject("Group", "ops", ""), role("ClusterRole", "everything")),
    );
    rights.set_binding(
        "",
        "f",
        binding(subject("ServiceAccount", "hpa", "kube-system"), role("ClusterRole", "scaler")),
    );
    rights.set_binding("", "g", binding(subject("User", "web", ""), role("ClusterRole", "urls")));
    rights.set_binding("", "h", binding(subject("User", "jane", ""), role("Role", "own-map")));
    rights
}

/// `verb group resource[/part] namespace name`, or `verb /path`.
fn asked(text: &'static str) -> Asked<'static> {
    let words: Vec<&str> = text.split(' ').collect();
    match words[..] {
        [verb, path] => Asked::Url { verb, path },
        [verb, group, resource, namespace, name] => {
            let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
            let dash = |text: &'static str| if text == "-" { "" } else { text };
            let (group, namespace, name) = (dash(group), dash(namespace), dash(name));
            Asked::Resource { verb, group, resource, subresource, namespace, name }
        }
        _ => panic!("{text}"),
    }
}

#[test]
fn the_table_of_rights() {
    let rights = table();
    for (user, group, question, allowed) in [
        ("jane", "", "get - pods shop web", true),
        ("jane", "", "get - pods/log shop web", true),
        ("jane", "", "get - pods/exec shop web", false),
        ("jane", "", "watch - pods shop -", false),
        ("jane", "", "get - pods other web", false),
        ("jane", "", "list - pods - -", false),
        ("jane", "", "get apps pods shop web", false),
        // A cluster role binding cannot name a role of a namespace.
        ("jane", "", "get - configmaps shop own", false),
        ("system:serviceaccount:shop:web", "", "get - configmaps shop own", true),
        ("system:serviceaccount:shop:web", "", "get - configmaps shop other", false),
        ("system:serviceaccount:shop:web", "", "get - configmaps shop -", false),
        ("system:serviceaccount:other:web", "", "get - configmaps shop own", false),
        ("web", "", "get - configmaps shop own", false),
        ("system:serviceaccount:kube-system:hpa", "", "update apps deployments/scale x y", true),
        ("system:serviceaccount:kube-system:hpa", "", "update apps deployments x y", false),
        (
            "system:serviceaccount:kube-system:hpa",
            "",
            "update - replicationcontrollers/scale x y",
            false,
        ),
        ("anybody", "ops", "delete x.example.com things/part any some", true),
        ("anybody", "ops", "post /anything", true),
        ("ops", "", "get - pods shop web", false),
        ("web", "", "get /metrics", true),
        ("web", "", "get /logs/a/b", true),
        ("web", "", "post /metrics", false),
        ("web", "", "get /metrics/more", false),
        // Paths belong to no namespace, so a role binding gives none.
        ("x", "urls", "get /metrics", false),
        ("lost", "", "get - pods shop web", false),
    ] {
        let groups = [group.to_owned()];
        let who = Who { user, groups: &groups };
        let ground = rights.allows(&who, &asked(question));
        assert_eq!(ground.is_some(), allowed, "{user} {group} {question}: {ground:?}");
    }
    let groups = ["ops".to_owned()];
    let ground = rights.allows(&Who { user: "x", groups: &groups }, &asked("get /x")).unwrap();
    assert_eq!(
        ground.to_string(),
        "RBAC: allowed by ClusterRoleBinding \"e\" of ClusterRole \"everything\""
    );
}

#[test]
fn what_was_taken_away_is_gone() {
    let mut rights = table();
    let who = Who { user: "jane", groups: &[] };
    let question = asked("get - pods shop web");
    assert!(rights.allows(&who, &question).is_some());
    rights.set_role("", "reader", None);
    assert!(rights.allows(&who, &question).is_none());
    rights.set_role("", "reader", Some(Rule::all().to_vec()));
    assert!(rights.allows(&who, &question).is_some());
    assert!(rights.rules_for(&who, "shop").iter().all(|rule| rule.non_resource_urls.is_empty()));
    rights.set_binding("shop", "a", None);
    assert!(rights.allows(&who, &question).is_none());
}

#[test]
fn the_escalation_table() {
    let rule = |verbs: &[&str], resources: &[&str]| Rule::resources(verbs, &["apps"], resources);
    let own = [
        rule(&["get", "list"], &["deployments"]),
        rule(&["update"], &["*/scale"]),
        rule(&["get"], &["daemonsets"]).named(&["a", "b"]),
        Rule::urls(&["get"], &["/logs/*"]),
    ];
    for (wanted, left) in [
        (rule(&["get"], &["deployments"]), 0),
        (rule(&["get", "watch"], &["deployments"]), 1),
        (rule(&["*"], &["deployments"]), 1),
        (rule(&["get"], &["deployments", "*"]), 1),
        (rule(&["update"], &["deployments/scale", "replicasets/scale"]), 0),
        (rule(&["update"], &["deployments/status"]), 1),
        (rule(&["get"], &["daemonsets"]), 1),
        (rule(&["get"], &["daemonsets"]).named(&["b"]), 0),
        (rule(&["get"], &["daemonsets"]).named(&["b", "c"]), 1),
        (rule(&["get"], &["deployments"]).named(&["x"]), 0),
        (Rule::resources(&["get"], &["", "apps"], &["deployments"]), 1),
        (Rule::urls(&["get"], &["/logs/x", "/logs/*"]), 0),
        (Rule::urls(&["get"], &["/logs"]), 1),
    ] {
        let missing = not_covered(&own, std::slice::from_ref(&wanted));
        assert_eq!(missing.len(), left, "{wanted}: {missing:?}");
    }
    assert!(not_covered(&Rule::all(), &Rule::all()).is_empty());
}

const VERBS: &[&str] = &["get", "list", "update", "*"];
const GROUPS: &[&str] = &["", "apps", "*"];
const RESOURCES: &[&str] = &["pods", "pods/log", "*/log", "jobs", "*"];
const NAMES: &[&str] = &["a", "b"];
const URLS: &[&str] = &["/x", "/x/*", "/y", "*"];
const USERS: &[&str] = &["jane", "system:serviceaccount:n1:web", "joe"];

fn some(of: &'static [&'static str], max: usize) -> impl Strategy<Value = Vec<String>> {
    vec(proptest::sample::select(of).prop_map(str::to_owned), 0..=max)
}

fn rule() -> impl Strategy<Value = Rule> {
    (some(VERBS, 2), some(GROUPS, 2), some(RESOURCES, 2), some(NAMES, 2), some(URLS, 2)).prop_map(
        |(verbs, api_groups, resources, resource_names, non_resource_urls)| Rule {
            verbs,
            api_groups,
            resources,
            resource_names,
            non_resource_urls,
        },
    )
}

fn question() -> impl Strategy<Value = Asked<'static>> {
    let pick = |of: &'static [&'static str]| proptest::sample::select(of);
    let resource =
        (
            pick(&["get", "list", "update", "delete"]),
            pick(&["", "apps", "batch"]),
            pick(&["pods", "jobs", "nodes"]),
            pick(&["", "log", "exec"]),
            pick(&["", "n1", "n2"]),
            pick(&["", "a", "b", "c"]),
        )
            .prop_map(|(verb, group, resource, subresource, namespace, name)| {
                Asked::Resource { verb, group, resource, subresource, namespace, name }
            });
    let url = (pick(&["get", "post"]), pick(&["/x", "/x/y", "/y", "/z"]))
        .prop_map(|(verb, path)| Asked::Url { verb, path });
    prop_oneof![4 => resource, 1 => url]
}

fn bindings() -> impl Strategy<Value = Vec<(String, Binding)>> {
    let place = proptest::sample::select(&["", "n1", "n2"][..]);
    let whom = prop_oneof![
        Just(subject("User", "jane", "")),
        Just(subject("Group", "dev", "")),
        Just(subject("ServiceAccount", "web", "n1")),
    ];
    let which = proptest::sample::select(&["r0", "r1", "r2"][..]);
    let kind = proptest::sample::select(&["Role", "ClusterRole"][..]);
    let one = (place, whom, kind, which).prop_map(|(place, whom, kind, which)| {
        (place.to_owned(), Binding { subjects: vec![whom], role: role(kind, which) })
    });
    vec(one, 0..6)
}

fn rights_of(roles: &[Vec<Rule>], bindings: &[(String, Binding)]) -> Rights {
    let mut rights = Rights::default();
    for (index, rules) in roles.iter().enumerate() {
        // The same names at both scopes with different rules, so that a mix-up shows.
        let name = format!("r{index}");
        let place = if index.is_multiple_of(2) { "" } else { "n1" };
        rights.set_role(place, &name, Some(rules.clone()));
    }
    for (index, (place, binding)) in bindings.iter().enumerate() {
        rights.set_binding(place, &format!("b{index}"), Some(binding.clone()));
    }
    rights
}

/// The definition, word by word, with no shortcut of the real one.
fn by_definition(
    roles: &[Vec<Rule>],
    bindings: &[(String, Binding)],
    who: &Who<'_>,
    asked: &Asked<'_>,
) -> bool {
    bindings.iter().any(|(place, binding)| {
        let reaches = match asked {
            Asked::Resource { namespace, .. } => place.is_empty() || place == namespace,
            Asked::Url { .. } => place.is_empty(),
        };
        let meant = binding.subjects.iter().any(|subject| match subject.kind.as_str() {
            "User" => subject.name == who.user,
            "Group" => who.groups.contains(&subject.name),
            _ => {
                who.user == format!("system:serviceaccount:{}:{}", subject.namespace, subject.name)
            }
        });
        let index: usize = binding.role.name[1..].parse().unwrap();
        let home = if index.is_multiple_of(2) { "" } else { "n1" };
        let found = index < roles.len()
            && match binding.role.kind.as_str() {
                "ClusterRole" => home.is_empty(),
                _ => !place.is_empty() && home == place,
            };
        reaches && meant && found && roles[index].iter().any(|rule| rule_allows(rule, asked))
    })
}

proptest! {
    #[test]
    fn the_answer_is_that_of_the_definition(
        roles in vec(vec(rule(), 0..3), 0..3),
        bindings in bindings(),
        user in proptest::sample::select(USERS),
        dev in any::<bool>(),
        question in question(),
    ) {
        let groups = if dev { vec!["dev".to_owned()] } else { Vec::new() };
        let who = Who { user, groups: &groups };
        let rights = rights_of(&roles, &bindings);
        let expected = by_definition(&roles, &bindings, &who, &question);
        prop_assert_eq!(rights.allows(&who, &question).is_some(), expected);
        // The list of rules says the same as the answer.
        let namespace = match question {
            Asked::Resource { namespace, .. } => namespace,
            Asked::Url { .. } => "",
        };
        let listed = rights.rules_for(&who, namespace);
        prop_assert_eq!(listed.iter().any(|rule| rule_allows(rule, &question)), expected);
    }

    #[test]
    fn rights_only_add_up(
        roles in vec(vec(rule(), 0..3), 0..3),
        first in bindings(),
        more in bindings(),
        question in question(),
    ) {
        let groups = ["dev".to_owned()];
        let who = Who { user: "jane", groups: &groups };
        let all: Vec<_> = first.iter().chain(&more).cloned().collect();
        if rights_of(&roles, &first).allows(&who, &question).is_some() {
            prop_assert!(rights_of(&roles, &all).allows(&who, &question).is_some());
        }
    }

    #[test]
    fn nothing_covered_allows_more_than_its_cover(
        own in vec(rule(), 0..4),
        wanted in rule(),
        questions in vec(question(), 20),
    ) {
        if not_covered(&own, std::slice::from_ref(&wanted)).is_empty() {
            for question in &questions {
                if rule_allows(&wanted, question) {
                    prop_assert!(
                        own.iter().any(|rule| rule_allows(rule, question)),
                        "{} {:?}", wanted, question
                    );
                }
            }
        }
    }

    #[test]
    fn everybody_may_give_what_he_has(own in vec(rule(), 0..4)) {
        prop_assert!(not_covered(&own, &own).is_empty());
    }
}
