//! The pods of a job: its template, the finalizer, and what makes one an index.

use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::{Container, EnvVar, EnvVarSource, ObjectFieldSelector, Pod};

use crate::client::typed::Kind;
use crate::controllers::pod_control;
use crate::logic::job::demand::NewPod;
use crate::logic::job::{INDEX, INDEX_FAILURES, INDEX_IGNORED, TRACKING};

/// The variable by which a container knows its index.
const VARIABLE: &str = "JOB_COMPLETION_INDEX";

/// Makes one pod.
pub(super) fn compose(job: &Job, spec: &JobSpec, new: &NewPod) -> Pod {
    let name = job.key().name;
    let prefix = match new.index {
        Some(index) => format!("{name}-{index}-"),
        None => format!("{name}-"),
    };
    let mut pod = pod_control::of_template(job, &spec.template, pod_control::random_name(&prefix));
    pod.metadata.generate_name = Some(prefix);
    pod.metadata.finalizers.get_or_insert_default().push(TRACKING.to_owned());
    if let Some(index) = new.index {
        give_index(&mut pod, &name, index);
        if spec.backoff_limit_per_index.is_some() {
            let annotations = pod.metadata.annotations.get_or_insert_default();
            annotations.insert(INDEX_FAILURES.to_owned(), new.failures.to_string());
            if new.ignored > 0 {
                annotations.insert(INDEX_IGNORED.to_owned(), new.ignored.to_string());
            }
        }
    }
    pod
}

fn give_index(pod: &mut Pod, job: &str, index: u32) {
    let text = index.to_string();
    pod.metadata.annotations.get_or_insert_default().insert(INDEX.to_owned(), text.clone());
    pod.metadata.labels.get_or_insert_default().insert(INDEX.to_owned(), text);
    let Some(spec) = &mut pod.spec else { return };
    spec.hostname = Some(format!("{job}-{index}"));
    let init = spec.init_containers.iter_mut().flatten();
    init.chain(&mut spec.containers).for_each(tell);
}

/// A container that sets the variable itself keeps its own.
fn tell(container: &mut Container) {
    let variables = container.env.get_or_insert_default();
    if variables.iter().any(|variable| variable.name == VARIABLE) {
        return;
    }
    let field = ObjectFieldSelector {
        api_version: None,
        field_path: format!("metadata.annotations['{INDEX}']"),
    };
    variables.push(EnvVar {
        name: VARIABLE.to_owned(),
        value_from: Some(EnvVarSource { field_ref: Some(field), ..EnvVarSource::default() }),
        ..EnvVar::default()
    });
}
