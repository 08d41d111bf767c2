//! The hash that names a pod template, and the comparison that says when two are equal.
//!
//! Why a hash of the JSON form: it is the same on every node and in every release that
//! reads the same fields. Kubernetes hashes Go's memory form, which nobody else can
//! reproduce; the value therefore differs from Kubernetes' while its role is the same.

use k8s_openapi::api::core::v1::PodTemplateSpec;

/// The label that ties a pod to its ReplicaSet's template.
pub const TEMPLATE_HASH: &str = "pod-template-hash";

/// Letters and digits without vowels and look-alikes, as Kubernetes uses for names.
const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// Ten characters; `collisions` is the Deployment's `collisionCount`.
pub fn template_hash(template: &PodTemplateSpec, collisions: i32) -> String {
    let json = serde_json::to_vec(&without_hash(template))
        .expect("a pod template has string keys only and so is always valid JSON");
    let mut hash = fnv1a(&json);
    if collisions > 0 {
        hash = hash.wrapping_mul(FNV_PRIME) ^ fnv1a(&collisions.to_le_bytes());
    }
    safe_text(hash, 10)
}

/// `length` characters that are safe in every name.
pub fn safe_text(mut bits: u64, length: usize) -> String {
    let base = ALPHABET.len() as u64;
    let mut text = String::with_capacity(length);
    for _ in 0..length {
        text.push(char::from(ALPHABET[(bits % base) as usize]));
        bits /= base;
    }
    text
}

const FNV_PRIME: u64 = 0x0100_0000_01b3;

/// FNV-1a: not cryptographic, and it need not be: a collision is detected by comparing
/// the templates themselves and counted.
pub(crate) fn fnv1a(bytes: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in bytes {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(FNV_PRIME);
    }
    // The low digits name the object, so mix the high bits into them.
    hash ^ (hash >> 29)
}

fn without_hash(template: &PodTemplateSpec) -> PodTemplateSpec {
    let mut template = template.clone();
    if let Some(metadata) = &mut template.metadata {
        metadata.creation_timestamp = None;
        if let Some(labels) = &mut metadata.labels {
            labels.remove(TEMPLATE_HASH);
        }
    }
    template
}

/// Whether two templates are the same apart from the hash label.
pub fn same_template(one: &PodTemplateSpec, other: &PodTemplateSpec) -> bool {
    without_hash(one) == without_hash(other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn template(image: &str) -> PodTemplateSpec {
        serde_json::from_value(json!({"metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": "web", "image": image}]}}))
        .unwrap()
    }

    #[test]
    fn the_hash_follows_the_template_and_ignores_itself() {
        let one = template("hello:1");
        let mut labelled = one.clone();
        let labels = labelled.metadata.as_mut().unwrap().labels.as_mut().unwrap();
        labels.insert(TEMPLATE_HASH.into(), "abc".into());
        assert_eq!(template_hash(&one, 0), template_hash(&labelled, 0));
        assert!(same_template(&one, &labelled));
        assert_ne!(template_hash(&one, 0), template_hash(&template("hello:2"), 0));
        assert_ne!(template_hash(&one, 0), template_hash(&one, 1));
        assert!(!same_template(&one, &template("hello:2")));
    }

    #[test]
    fn the_hash_is_stable_between_releases() {
        // A changed value would roll every Deployment of every cluster on upgrade.
        assert_eq!(template_hash(&template("hello:1"), 0).len(), 10);
        assert_eq!(safe_text(0, 3), "bbb");
        assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325 ^ (0xcbf2_9ce4_8422_2325 >> 29));
    }
}
