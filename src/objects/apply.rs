//! Server-side apply: the object becomes what the configuration says, as far as it says.
//!
//! Invariants: what the client left out is never owned by it; an object that does not
//! exist is created, if the object itself is applied and not a part of it; status is
//! applied through its own path only.

use serde_json::{Map, Value, json};

use super::update::{Part, check_identity, check_version, next_object};
use super::{Address, Objects, WriteOptions, create, fields, ownership, scale, stored, str_at};
use crate::logic::apply::managed::{Managed, Manager};
use crate::logic::apply::rules::{self, ApplyError};
use crate::model::kinds::{Kind, Subresource};
use crate::model::status::{Status, StatusCause, StatusDetails};

/// Attempts before a contended apply gives up.
const ATTEMPTS: usize = 10;

/// A configuration to apply.
#[derive(Clone, Debug)]
pub struct ApplyRequest {
    pub config: Value,
    /// Takes fields that others own instead of refusing.
    pub force: bool,
    /// Why the applier may not create the object, if it is not there.
    pub may_create: Result<(), Status>,
}

/// The object after an apply.
#[derive(Clone, Debug)]
pub struct Applied {
    pub object: Value,
    /// It did not exist before.
    pub created: bool,
}

impl Objects {
    /// Applies a configuration.
    pub async fn apply(
        &self,
        address: &Address,
        subresource: Option<Subresource>,
        request: ApplyRequest,
        options: WriteOptions,
    ) -> Result<Applied, Status> {
        let part = match subresource {
            Some(Subresource::Scale) => Part::Scale,
            other => Part::of(other)?,
        };
        check_config(address, part, &request.config)?;
        let config = config_for(address.kind, part, request.config.clone());
        let applier = ownership::applier(address.kind, &options, part.recorded().unwrap_or(""));
        for _ in 0..ATTEMPTS {
            let Some(found) = self.fetch(address).await? else {
                if part != Part::Main {
                    return Err(address.not_found());
                }
                request.may_create.clone()?;
                match self.apply_new(address, &config, &applier, &options).await {
                    Err(status) if status.reason == "AlreadyExists" => continue,
                    outcome => return outcome.map(|object| Applied { object, created: true }),
                }
            };
            check_version(address, &found, &request.config)?;
            let mut wanted = json!({});
            let managed = ownership::before(&found.object, &mut wanted, part.recorded())?;
            let live = ownership::bare(&found.object);
            let applied =
                run(address.kind, Some(&live), &config, &applier, request.force, managed)?;
            let mut next = next_object(address.kind, part, &found.object, applied.object)?;
            self.admit_change(address, part, &found.object, &next, &options).await?;
            ownership::write(&mut next, &applied.managed);
            if let Some(done) = self.replace(address, &found, next, &options).await? {
                let object =
                    if part == Part::Scale { scale::of(address.kind, &done) } else { done };
                return Ok(Applied { object, created: false });
            }
        }
        Err(Status::timeout("the apply was overtaken by other writers too often; try again")
            .retry_after(1))
    }

    async fn apply_new(
        &self,
        address: &Address,
        config: &Value,
        applier: &Manager,
        options: &WriteOptions,
    ) -> Result<Value, Status> {
        if !str_at(config, "/metadata/uid").is_empty()
            || !str_at(config, "/metadata/resourceVersion").is_empty()
        {
            // Whoever names a version or an identity means an object that is gone.
            return Err(address.conflict("the object does not exist any more"));
        }
        let applied = run(address.kind, None, config, applier, true, Managed::default())?;
        let mut object = applied.object;
        if let Some(metadata) = stored::metadata(&mut object) {
            metadata.insert("name".into(), address.name.as_str().into());
        }
        let namespace = address.kind.namespaced.then_some(address.namespace.as_str());
        let mut object = create::clean(address.kind, namespace, object)?;
        ownership::write(&mut object, &applied.managed);
        (address.kind.on_create)(&mut object);
        self.create_from(address.kind, namespace, &object, false, options).await
    }
}

fn run(
    kind: &Kind,
    live: Option<&Value>,
    config: &Value,
    applier: &Manager,
    force: bool,
    managed: Managed,
) -> Result<rules::Applied, Status> {
    let now = stored::timestamp();
    let shape = kind.schema();
    let apply = rules::Apply { live, config, shape: &shape, applier, force, now: &now };
    apply.run(managed).map_err(|error| refuse(kind, config, &error))
}

fn refuse(kind: &Kind, config: &Value, error: &ApplyError) -> Status {
    match error {
        ApplyError::Invalid(_) => Status::bad_request(format!(
            "failed to create typed patch object ({}/{}; {}, Kind={}): {error}",
            str_at(config, "/metadata/namespace"),
            str_at(config, "/metadata/name"),
            kind.api_version(),
            kind.kind,
        )),
        ApplyError::Conflicts(conflicts) => {
            let causes = conflicts.iter().map(|conflict| StatusCause {
                reason: "FieldManagerConflict".into(),
                message: format!("conflict with {}", conflict.manager),
                field: conflict.field.clone(),
            });
            let mut status = Status::failure(409, "Conflict", error.to_string());
            status.details =
                Some(StatusDetails { causes: causes.collect(), ..StatusDetails::default() });
            status
        }
    }
}

fn check_config(address: &Address, part: Part, config: &Value) -> Result<(), Status> {
    check_identity(address, config)?;
    let (version, name) = if part == Part::Scale {
        ("autoscaling/v1".to_owned(), "Scale")
    } else {
        (address.kind.api_version(), address.kind.kind)
    };
    let said = str_at(config, "/apiVersion");
    if said != version {
        return Err(Status::bad_request(format!(
            "Incorrect version specified in apply patch. Specified patch version: {said}, expected: {version}"
        )));
    }
    if str_at(config, "/kind") != name {
        return Err(Status::bad_request(format!(
            "the kind in the data ({}) does not match the expected kind ({name})",
            str_at(config, "/kind")
        )));
    }
    if config.pointer("/metadata/managedFields").is_some_and(|list| !list.is_null()) {
        return Err(Status::bad_request("metadata.managedFields must be nil"));
    }
    Ok(())
}

/// What of a configuration the part can take, as a configuration of the whole object.
fn config_for(kind: &Kind, part: Part, mut config: Value) -> Value {
    if kind.custom.is_none() {
        fields::quantities_to_text(&mut config);
    }
    if let Some(metadata) = config.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.shift_remove("managedFields");
        if part != Part::Main {
            metadata.retain(|field, _| field == "name" || field == "namespace");
        }
    }
    let own = match part {
        Part::Status => &["apiVersion", "kind", "metadata", "status"][..],
        Part::Finalize | Part::Scale | Part::EphemeralContainers => {
            &["apiVersion", "kind", "metadata", "spec"]
        }
        Part::Main | Part::Server => {
            if kind.has(Subresource::Status)
                && let Some(fields) = config.as_object_mut()
            {
                fields.shift_remove("status");
            }
            return config;
        }
    };
    let fields = config.as_object_mut().map(std::mem::take).unwrap_or_default();
    let mut kept: Map<String, Value> =
        fields.into_iter().filter(|(name, _)| own.contains(&name.as_str())).collect();
    kept.insert("apiVersion".into(), kind.api_version().into());
    kept.insert("kind".into(), kind.kind.into());
    if part == Part::Scale {
        let replicas = kept.get("spec").and_then(|spec| spec.get("replicas")).cloned();
        kept.shift_remove("spec");
        let mut config = Value::Object(kept);
        scale::set_replicas(kind, &mut config, replicas.unwrap_or_else(|| 0.into()));
        return config;
    }
    Value::Object(kept)
}
