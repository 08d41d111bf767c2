//! Create.
//!
//! Invariants: an existing object is never overwritten; the namespace lived at the
//! revision of the write (its key is a guard of the transaction).

use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;

use super::access::Author;
use super::{
    Address, Objects, WriteOptions, admission, definitions, key, limits, ownership, refusal,
    service_account, stored, str_at,
};
use crate::model::kinds::{Kind, Subresource};
use crate::model::kv::{Compare, Op, OpResponse, RangeRequest, TxnRequest};
use crate::model::status::Status;
use crate::sys::fresh;

/// Attempts before a contended create gives up.
const ATTEMPTS: usize = 8;
/// The same where several servers charge one quota; each time one of them gets through.
const QUOTA_ATTEMPTS: usize = 40;
/// Longest pause before the next such attempt, for the first of them, ms.
const QUOTA_PAUSE_MAX_MS: usize = 4;
/// Longest prefix that `generateName` keeps, so that the suffix fits in a label.
const GENERATE_PREFIX_MAX: usize = 58;

impl Objects {
    /// Creates an object in a namespace (`None` for cluster-wide kinds).
    pub async fn create(
        &self,
        kind: &'static Kind,
        namespace: Option<&str>,
        object: Value,
        options: WriteOptions,
    ) -> Result<Value, Status> {
        let generated = str_at(&object, "/metadata/name").is_empty()
            && !str_at(&object, "/metadata/generateName").is_empty();
        let template = new_object(kind, namespace, object, &options)?;
        self.create_from(kind, namespace, &template, generated, &options).await
    }

    /// Writes a new object that is complete but for a generated name.
    pub(super) async fn create_from(
        &self,
        kind: &'static Kind,
        namespace: Option<&str>,
        template: &Value,
        generated: bool,
        options: &WriteOptions,
    ) -> Result<Value, Status> {
        let (mut races, mut overtaken) = (0, 0);
        while races < ATTEMPTS && overtaken < QUOTA_ATTEMPTS {
            let mut object = template.clone();
            if generated {
                let prefix: String = str_at(&object, "/metadata/generateName")
                    .chars()
                    .take(GENERATE_PREFIX_MAX)
                    .collect();
                object["metadata"]["name"] = format!("{prefix}{}", fresh::name_suffix()).into();
            }
            let object = admission::prepare_new(kind, object)?;
            let address = Address::new(kind, namespace, str_at(&object, "/metadata/name"));
            match self.try_create(&address, object, options).await? {
                Outcome::Created(object) => return Ok(object),
                Outcome::Exists if !generated => {
                    return Err(Status::already_exists(kind.plural, kind.group, &address.name));
                }
                Outcome::Exists | Outcome::Raced => races += 1,
                Outcome::Overtaken => {
                    overtaken += 1;
                    let pause = 1 + fresh::below(QUOTA_PAUSE_MAX_MS * overtaken) as u64;
                    tokio::time::sleep(Duration::from_millis(pause)).await;
                }
            }
        }
        Err(Status::timeout("the create was overtaken by other writers too often; try again")
            .retry_after(1))
    }

    async fn try_create(
        &self,
        address: &Address,
        mut object: Value,
        options: &WriteOptions,
    ) -> Result<Outcome, Status> {
        let namespace = self.admit_namespace(address).await?;
        let definition = self.admit_definition(address.kind).await?;
        let author = options.author.as_deref();
        let home = namespace.as_ref().map(|found| &found.object);
        object = self.admit_new(address, home, object, author).await?;
        let addresses = self.plan_service(address, None, Some(&mut object)).await?;
        let quotas = self.plan_quota(address, None, &object, options.dry_run).await?;
        let object_key = Bytes::from(key::object(address));
        if options.dry_run {
            return match self.fetch(address).await? {
                Some(_) => Ok(Outcome::Exists),
                None => Ok(Outcome::Created(object)),
            };
        }
        let mut compare = vec![Compare::mod_revision(object_key.clone(), 0)];
        if let Some(found) = namespace {
            let home = Address::new(admission::namespace_kind(), None, &address.namespace);
            compare.push(Compare::mod_revision(key::object(&home), found.revision));
        }
        if let Some(found) = definition {
            let place = key::object(&definitions::definition_of(address.kind));
            compare.push(Compare::mod_revision(place, found.revision));
        }
        let charged = quotas.turn.is_some();
        compare.extend(addresses.compare);
        compare.extend(quotas.compare);
        let mut success = vec![Op::put(object_key.clone(), stored::encode(address.kind, &object)?)];
        success.extend(addresses.ops);
        success.extend(quotas.ops);
        success.extend(service_account::with_namespace(address)?);
        success.extend(options.author.as_ref().and_then(|author| author.op(address, 201)));
        let failure = vec![Op::Range(RangeRequest::key(object_key))];
        let answer =
            self.kv.txn(TxnRequest { compare, success, failure }).await.map_err(refusal::of)?;
        if answer.succeeded {
            if let Some(author) = &options.author {
                author.was_recorded();
            }
            self.rights.note_write(address.kind, answer.revision);
            stored::set_version(&mut object, answer.revision);
            return Ok(Outcome::Created(object));
        }
        let exists = answer
            .responses
            .iter()
            .any(|response| matches!(response, OpResponse::Range(found) if !found.kvs.is_empty()));
        Ok(match (exists, charged) {
            (true, _) => Outcome::Exists,
            (false, true) => Outcome::Overtaken,
            (false, false) => Outcome::Raced,
        })
    }

    /// What the cluster adds to a new object, and whether it lets it in.
    async fn admit_new(
        &self,
        address: &Address,
        namespace: Option<&Value>,
        mut object: Value,
        author: Option<&Author>,
    ) -> Result<Value, Status> {
        let kind = address.kind;
        let ranges =
            if limits::are_about(address) { self.limit_ranges(address).await? } else { Vec::new() };
        let filled = limits::fill(&ranges, address, &mut object);
        self.admit_service_account(address, &mut object).await?;
        self.admit_priority(address, &mut object).await?;
        self.admit_ingress(address, &mut object).await?;
        if filled {
            object = admission::prepare_new(kind, object)?;
            (kind.on_create)(&mut object);
        }
        limits::check(&ranges, address, &object)?;
        self.admit_pod_security(address, namespace, None, &object, author).await?;
        self.admit_node(address, None, &object, author).await?;
        self.admit_rights(address, None, &object, author).await?;
        Ok(object)
    }
}

enum Outcome {
    Created(Value),
    Exists,
    /// The namespace, the definition, an address or a quota changed in between.
    Raced,
    /// Others charged the same quota.
    Overtaken,
}

/// The object as it will be written, with its first owner.
fn new_object(
    kind: &Kind,
    namespace: Option<&str>,
    mut object: Value,
    options: &WriteOptions,
) -> Result<Value, Status> {
    let managed = ownership::before(&Value::Null, &mut object, Some(""))?;
    let mut filled = clean(kind, namespace, object)?;
    let writer = ownership::writer(kind, options, "");
    ownership::record(kind, managed, None, &mut filled, &writer);
    (kind.on_create)(&mut filled);
    Ok(filled)
}

/// What the client sent with the server's own fields in the place of its, and defaults.
pub(super) fn clean(
    kind: &Kind,
    namespace: Option<&str>,
    mut object: Value,
) -> Result<Value, Status> {
    if !object.is_object() {
        return Err(Status::bad_request("the body of the request must be an object"));
    }
    let version = str_at(&object, "/metadata/resourceVersion");
    if !version.is_empty() {
        return Err(Status::bad_request(
            "resourceVersion should not be set on objects to be created",
        ));
    }
    let own = str_at(&object, "/metadata/namespace");
    match namespace {
        Some(namespace) if !own.is_empty() && own != namespace => {
            return Err(Status::bad_request(format!(
                "the namespace of the provided object does not match the namespace sent on the request ({own} != {namespace})"
            )));
        }
        _ => {}
    }
    admission::drop_server_fields(&mut object);
    if let Some(metadata) = stored::metadata(&mut object) {
        match namespace {
            Some(namespace) => metadata.insert("namespace".into(), namespace.into()),
            None => metadata.shift_remove("namespace"),
        };
        metadata.insert("uid".into(), fresh::uid().into());
        metadata.insert("creationTimestamp".into(), stored::timestamp().into());
        if kind.generation {
            metadata.insert("generation".into(), 1.into());
        }
    }
    if kind.has(Subresource::Status)
        && !kind.status_on_create
        && let Some(fields) = object.as_object_mut()
    {
        fields.shift_remove("status");
    }
    // The first status may depend on defaults (a pod's class on its requests).
    let mut filled = super::fields::decode(kind, object)?;
    kind.default(&mut filled);
    Ok(filled)
}
