//! What a pod's class says about it: `spec.priority` and `spec.preemptionPolicy`.
//!
//! Source: `plugin/pkg/admission/priority/admission.go`.
//! Invariant: no pod has a priority that its class does not give it.

use serde_json::Value;

use super::{Address, ListRequest, Objects, str_at};
use crate::model::kinds::{self, Kind};
use crate::model::status::Status;

/// The fields that the class decides.
const FIELDS: &[&str] = &["priority", "preemptionPolicy"];
const PREEMPTS: &str = "PreemptLowerPriority";

fn classes() -> &'static Kind {
    kinds::by_path("scheduling.k8s.io", "v1", "priorityclasses")
        .expect("priority classes are in the table of kinds")
}

/// An update that does not mention what the class said keeps it.
pub(super) fn keep(kind: &Kind, old: &Value, next: &mut Value) {
    if kind.kind != "Pod" || !kind.group.is_empty() {
        return;
    }
    for field in FIELDS {
        if next["spec"].get(field).is_none()
            && let Some(value) = old["spec"].get(field)
        {
            next["spec"][field] = value.clone();
        }
    }
}

impl Objects {
    /// Gives a new pod its priority; refuses a second default class.
    pub(super) async fn admit_priority(
        &self,
        address: &Address,
        object: &mut Value,
    ) -> Result<(), Status> {
        let kind = address.kind;
        match (kind.group, kind.kind) {
            ("", "Pod") => self.admit_pod_priority(address, object).await,
            ("scheduling.k8s.io", "PriorityClass") => self.admit_default(address, object).await,
            _ => Ok(()),
        }
    }

    /// Of several defaults the lowest counts, as in Kubernetes.
    async fn default_class(&self) -> Result<Option<Value>, Status> {
        let request = ListRequest {
            resource_version: Some("0".into()),
            ..ListRequest::selecting(classes(), None, "", "")?
        };
        let listed = self.list(&request).await?.items.into_iter();
        let defaults = listed.filter(|class| class["globalDefault"] == true);
        Ok(defaults.min_by_key(|class| class["value"].as_i64()))
    }

    async fn admit_pod_priority(&self, address: &Address, pod: &mut Value) -> Result<(), Status> {
        let refuse = |why: &str| Err(Status::forbidden("pods", "", &address.name, why));
        let name = str_at(pod, "/spec/priorityClassName").to_owned();
        let class = if name.is_empty() {
            self.default_class().await?
        } else {
            let place = Address::new(classes(), None, &name);
            // The local replica may not have what was made a moment ago.
            let mut found = self.fetch_as(&place, true).await?;
            if found.is_none() {
                found = self.fetch(&place).await?;
            }
            match found {
                Some(found) => Some(found.object),
                None => return refuse(&format!("no PriorityClass with name {name} was found")),
            }
        };
        let (name, value, policy) = match &class {
            Some(class) => (
                str_at(class, "/metadata/name"),
                class["value"].as_i64().unwrap_or_default(),
                class["preemptionPolicy"].as_str().unwrap_or(PREEMPTS),
            ),
            None => ("", 0, PREEMPTS),
        };
        if let Some(own) = pod["spec"]["priority"].as_i64().filter(|own| *own != value) {
            return refuse(&format!(
                "the integer value of priority ({own}) must not be provided in pod spec; priority admission controller computed {value} from the given PriorityClass name"
            ));
        }
        if let Some(own) = pod["spec"]["preemptionPolicy"].as_str().filter(|own| *own != policy) {
            return refuse(&format!(
                "the string value of PreemptionPolicy ({own}) must not be provided in pod spec; priority admission controller computed {policy} from the given PriorityClass name"
            ));
        }
        let Some(spec) = pod.get_mut("spec").and_then(Value::as_object_mut) else { return Ok(()) };
        if !name.is_empty() {
            spec.insert("priorityClassName".into(), name.into());
        }
        spec.insert("priority".into(), value.into());
        spec.insert("preemptionPolicy".into(), policy.into());
        Ok(())
    }

    /// There is one default at most.
    pub(super) async fn admit_default(
        &self,
        address: &Address,
        class: &Value,
    ) -> Result<(), Status> {
        if address.kind.kind != "PriorityClass" || class["globalDefault"] != true {
            return Ok(());
        }
        let other = self.default_class().await?;
        let Some(other) = other.filter(|other| other["metadata"]["name"] != address.name.as_str())
        else {
            return Ok(());
        };
        let why = format!(
            "PriorityClass {} is already marked as default. Only one default can exist",
            str_at(&other, "/metadata/name")
        );
        Err(Status::forbidden("priorityclasses", "scheduling.k8s.io", &address.name, &why))
    }
}
