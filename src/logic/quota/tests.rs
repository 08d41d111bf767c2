//! Words, sums and scopes are those of Kubernetes.

use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Counted, charge, count, hard, to_json};
use crate::model::quantity::Quantity;

const PODS: Counted<'_> = Counted { group: "", plural: "pods" };
const CLAIMS: Counted<'_> = Counted { group: "", plural: "persistentvolumeclaims" };
const DEPLOYMENTS: Counted<'_> = Counted { group: "apps", plural: "deployments" };

fn now() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

fn quota(hard: Value, used: Value) -> Value {
    json!({"metadata": {"name": "q"}, "spec": {"hard": hard},
        "status": {"hard": hard, "used": used}})
}

fn pod(requests: Value, limits: Value) -> Value {
    json!({"metadata": {"name": "p"}, "spec": {"containers": [
        {"name": "c", "resources": {"requests": requests, "limits": limits}}]}})
}

/// The use after the charge, or the refusal.
fn charged(quota: &Value, kind: &Counted<'_>, object: &Value) -> Result<Value, String> {
    let done = charge(std::slice::from_ref(quota), kind, None, object, now())?;
    Ok(done.first().map_or(Value::Null, |charge| to_json(&charge.used)))
}

#[test]
fn a_pod_is_charged_for_all_that_the_quota_bounds() {
    let hard = json!({"requests.cpu": "1", "limits.memory": "1Gi", "pods": "2", "count/pods": "5"});
    let used =
        json!({"requests.cpu": "500m", "limits.memory": "512Mi", "pods": "1", "count/pods": "3"});
    let quota = quota(hard, used);
    let small = pod(json!({"cpu": "500m"}), json!({"memory": "512Mi"}));
    assert_eq!(
        charged(&quota, &PODS, &small).unwrap(),
        json!({"count/pods": "4", "limits.memory": "1Gi", "pods": "2", "requests.cpu": "1"})
    );
    let big = pod(json!({"cpu": "501m"}), json!({"memory": "1Gi"}));
    assert_eq!(
        charged(&quota, &PODS, &big).unwrap_err(),
        "exceeded quota: q, requested: limits.memory=1Gi,requests.cpu=501m, used: limits.memory=512Mi,requests.cpu=500m, limited: limits.memory=1Gi,requests.cpu=1"
    );
    let silent = pod(json!({}), json!({}));
    assert_eq!(
        charged(&quota, &PODS, &silent).unwrap_err(),
        "failed quota: q: must specify limits.memory for: c; requests.cpu for: c"
    );
}

#[test]
fn a_quota_that_is_not_counted_yet_allows_nothing_that_it_bounds() {
    let mut young = quota(json!({"pods": "9", "count/deployments.apps": "1"}), json!({}));
    young["status"] = json!({});
    let object = pod(json!({}), json!({}));
    assert_eq!(
        charged(&young, &PODS, &object).unwrap_err(),
        "status unknown for quota: q, resources: pods"
    );
    assert_eq!(charged(&young, &CLAIMS, &json!({"spec": {}})).unwrap(), Value::Null);
    let full =
        quota(json!({"count/deployments.apps": "1"}), json!({"count/deployments.apps": "1"}));
    assert_eq!(
        charged(&full, &DEPLOYMENTS, &json!({})).unwrap_err(),
        "exceeded quota: q, requested: count/deployments.apps=1, used: count/deployments.apps=1, limited: count/deployments.apps=1"
    );
}

#[test]
fn claims_are_charged_altogether_and_by_class() {
    let gold = "gold.storageclass.storage.k8s.io/requests.storage";
    let quota = quota(
        json!({"requests.storage": "10Gi", gold: "1Gi", "persistentvolumeclaims": "2"}),
        json!({"requests.storage": "0", gold: "0", "persistentvolumeclaims": "0"}),
    );
    let claim = |class: &str, size: &str| json!({"spec": {"storageClassName": class, "resources": {"requests": {"storage": size}}}});
    assert_eq!(
        charged(&quota, &CLAIMS, &claim("silver", "5Gi")).unwrap(),
        json!({gold: "0", "persistentvolumeclaims": "1", "requests.storage": "5Gi"})
    );
    assert_eq!(
        charged(&quota, &CLAIMS, &claim("gold", "2Gi")).unwrap_err(),
        format!("exceeded quota: q, requested: {gold}=2Gi, used: {gold}=0, limited: {gold}=1Gi")
    );
    assert!(!PODS.handles(gold) && CLAIMS.handles(gold));
}

#[test]
fn only_growth_is_charged() {
    let quota = quota(json!({"requests.storage": "3Gi"}), json!({"requests.storage": "2Gi"}));
    let claim = |size: &str| json!({"spec": {"resources": {"requests": {"storage": size}}}});
    let resized = |from: &str, to: &str| {
        charge(std::slice::from_ref(&quota), &CLAIMS, Some(&claim(from)), &claim(to), now())
    };
    assert_eq!(
        to_json(&resized("1Gi", "2Gi").unwrap()[0].used),
        json!({"requests.storage": "3Gi"})
    );
    assert!(resized("1Gi", "3Gi").is_err());
    assert!(resized("2Gi", "1Gi").unwrap().is_empty());
    assert!(resized("9Gi", "9Gi").unwrap().is_empty());
}

#[test]
fn scopes_choose_the_pods_that_count() {
    let of = |scopes: Value, selector: Value| {
        let mut quota = quota(json!({"pods": "1"}), json!({"pods": "0"}));
        quota["spec"]["scopes"] = scopes;
        quota["spec"]["scopeSelector"] = json!({"matchExpressions": selector});
        quota
    };
    let counts = |quota: &Value, pod: &Value| !charged(quota, &PODS, pod).unwrap().is_null();
    let bare = pod(json!({}), json!({}));
    let asking = pod(json!({"cpu": "1"}), json!({}));
    let mut ending = bare.clone();
    ending["spec"]["activeDeadlineSeconds"] = 5.into();
    let mut dear = bare.clone();
    dear["spec"]["priorityClassName"] = "high".into();
    for (scope, yes, no) in [
        ("BestEffort", &bare, &asking),
        ("NotBestEffort", &asking, &bare),
        ("Terminating", &ending, &bare),
        ("NotTerminating", &bare, &ending),
        ("PriorityClass", &dear, &bare),
    ] {
        let quota = of(json!([scope]), json!([]));
        assert!(counts(&quota, yes), "{scope}");
        assert!(!counts(&quota, no), "{scope}");
    }
    let select = |operator: &str, values: Value| {
        of(
            json!([]),
            json!([{"scopeName": "PriorityClass", "operator": operator, "values": values}]),
        )
    };
    assert!(counts(&select("In", json!(["high"])), &dear));
    assert!(!counts(&select("In", json!(["low"])), &dear));
    assert!(counts(&select("NotIn", json!(["low"])), &dear));
    assert!(counts(&select("DoesNotExist", json!([])), &bare));
    let scoped = of(json!(["BestEffort"]), json!([]));
    assert!(!super::matches_scopes(&scoped, &CLAIMS, &json!({})));
}

#[test]
fn what_is_over_is_counted_as_an_object_only() {
    let quota = quota(json!({"pods": "9", "count/pods": "9", "cpu": "9"}), json!({}));
    let mut done = pod(json!({"cpu": "1"}), json!({}));
    done["status"] = json!({"phase": "Succeeded"});
    let mut stuck = pod(json!({"cpu": "1"}), json!({}));
    stuck["metadata"]["deletionTimestamp"] = "2025-12-31T00:00:00Z".into();
    stuck["metadata"]["deletionGracePeriodSeconds"] = 30.into();
    let live = pod(json!({"cpu": "1500m"}), json!({}));
    let objects = [done, stuck, live];
    let used = count(&quota, [(PODS, &objects[..]), (CLAIMS, &[][..])].into_iter(), now());
    assert_eq!(to_json(&used), json!({"count/pods": "3", "cpu": "1500m", "pods": "1"}));
}

proptest! {
    /// Whatever order objects come in, no bound is ever passed, and what was charged is
    /// what counting finds.
    #[test]
    fn charges_never_pass_the_bound_and_agree_with_counting(
        sizes in proptest::collection::vec(1u32..900, 1..40),
    ) {
        let mut quota = quota(
            json!({"requests.cpu": "5", "pods": "12"}),
            json!({"requests.cpu": "0", "pods": "0"}),
        );
        let mut admitted = Vec::new();
        for size in sizes {
            let object = pod(json!({"cpu": format!("{size}m")}), json!({}));
            if let Ok(used) = charged(&quota, &PODS, &object) {
                quota["status"]["used"] = used;
                admitted.push(object);
            }
        }
        let counted = count(&quota, [(PODS, &admitted[..])].into_iter(), now());
        prop_assert_eq!(&to_json(&counted), &quota["status"]["used"]);
        let bounds = hard(&quota);
        prop_assert!(counted.iter().all(|(name, amount)| *amount <= bounds[name]));
        prop_assert!(counted["pods"] <= Quantity::parse("12").unwrap());
    }
}
