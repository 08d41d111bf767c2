//! `POST serviceaccounts/NAME/token`: makes a token for a service account.
//!
//! Invariants: a token is never stored; it names the account and what it is bound to by
//! uid, so that it ends with them; a node gets one only for a pod that runs on it, bound
//! to that pod.
//! Source: `pkg/registry/core/serviceaccount/storage/token.go`, `pkg/serviceaccount/claims.go`.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{ACCOUNT_PREFIX, API_AUDIENCE};
use crate::base::limits::{ACCOUNT_TOKEN_DEFAULT_S, ACCOUNT_TOKEN_MAX_S, ACCOUNT_TOKEN_MIN_S};
use crate::model::kinds::{self, Problems};
use crate::model::status::Status;
use crate::objects::{Address, Objects, str_at};
use crate::sys::{clock, fresh};

/// A new token.
#[derive(Clone, Debug)]
pub struct Issued {
    pub token: String,
    pub expires: Timestamp,
    pub audiences: Vec<String>,
    pub seconds: i64,
}

/// What is asked for, checked.
struct Wish<'a> {
    audiences: Vec<String>,
    seconds: i64,
    bound: Option<&'a Value>,
}

fn wish(spec: &Value) -> Result<Wish<'_>, Status> {
    let seconds = match spec.get("expirationSeconds") {
        None | Some(Value::Null) => ACCOUNT_TOKEN_DEFAULT_S,
        Some(value) => value
            .as_i64()
            .ok_or_else(|| Status::bad_request("spec.expirationSeconds must be a whole number"))?,
    };
    let mut problems = Problems::default();
    let field = "spec.expirationSeconds";
    if seconds < ACCOUNT_TOKEN_MIN_S {
        let text = "may not specify a duration less than 10 minutes";
        problems.invalid(field, &seconds.into(), text);
    }
    if seconds > ACCOUNT_TOKEN_MAX_S {
        problems.invalid(
            field,
            &seconds.into(),
            "may not specify a duration larger than 2^32 seconds",
        );
    }
    if !problems.is_empty() {
        let causes = problems.into_causes();
        return Err(Status::invalid("TokenRequest", "authentication.k8s.io", "", causes));
    }
    let named = spec.get("audiences").and_then(Value::as_array).into_iter().flatten();
    let mut audiences: Vec<String> = named.filter_map(Value::as_str).map(str::to_owned).collect();
    if audiences.is_empty() {
        audiences.push(API_AUDIENCE.to_owned());
    }
    Ok(Wish { audiences, seconds, bound: spec.get("boundObjectRef").filter(|it| !it.is_null()) })
}

impl Objects {
    /// Makes a token for an account. `node` asks for itself and gets only what its pods
    /// need; everybody else must have been authorized.
    pub async fn issue_account_token(
        &self,
        account: &Address,
        spec: &Value,
        node: Option<&str>,
    ) -> Result<Issued, Status> {
        let wish = wish(spec)?;
        let found = self.fetch(account).await?.ok_or_else(|| account.not_found())?;
        let mut about = json!({
            "namespace": account.namespace,
            "serviceaccount": {
                "name": account.name, "uid": found.object["metadata"]["uid"],
            },
        });
        match wish.bound {
            Some(bound) => self.bind_token(account, bound, node, &mut about).await?,
            None if node.is_some() => {
                let why = "node requested token not bound to a pod";
                return Err(refuse(account, why));
            }
            None => {}
        }
        let now = clock::now();
        let expires = now.as_second() + wish.seconds;
        let claims = json!({
            "aud": wish.audiences,
            "exp": expires,
            "iat": now.as_second(),
            "iss": API_AUDIENCE,
            "jti": fresh::uid(),
            "kubernetes.io": about,
            "nbf": now.as_second(),
            "sub": format!("{ACCOUNT_PREFIX}{}:{}", account.namespace, account.name),
        });
        let (keys, _) = self.read_keys(false).await?;
        let token = keys.signer()?.sign(&claims).map_err(Status::internal)?;
        let expires = Timestamp::from_second(expires).map_err(Status::internal)?;
        Ok(Issued { token, expires, audiences: wish.audiences, seconds: wish.seconds })
    }

    /// Writes what the token is bound to into its claims, if that is there and fits.
    async fn bind_token(
        &self,
        account: &Address,
        bound: &Value,
        node: Option<&str>,
        about: &mut Value,
    ) -> Result<(), Status> {
        let (kind, name, uid) =
            (str_at(bound, "/kind"), str_at(bound, "/name"), str_at(bound, "/uid"));
        let (claim, plural) = match (str_at(bound, "/apiVersion"), kind) {
            ("v1", "Pod") => ("pod", "pods"),
            ("v1", "Secret") => ("secret", "secrets"),
            ("v1", "Node") => ("node", "nodes"),
            _ => {
                return Err(Status::bad_request(format!(
                    "cannot bind token to object of type {kind}"
                )));
            }
        };
        if node.is_some() && claim != "pod" {
            return Err(refuse(account, "node requested token not bound to a pod"));
        }
        let served = kinds::by_path("", "v1", plural).ok_or_else(Status::unknown_resource)?;
        let address = Address::new(served, Some(&account.namespace), name);
        let found = self.fetch(&address).await?.ok_or_else(|| address.not_found())?;
        let own = str_at(&found.object, "/metadata/uid");
        if !uid.is_empty() && uid != own {
            return Err(address.conflict(&format!(
                "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
            )));
        }
        about[claim] = json!({"name": name, "uid": own});
        if claim != "pod" {
            return Ok(());
        }
        let runs_as = str_at(&found.object, "/spec/serviceAccountName");
        if runs_as != account.name {
            return Err(Status::bad_request(format!(
                "cannot bind token for serviceaccount {:?} to pod running with different serviceaccount name.",
                account.name
            )));
        }
        let place = str_at(&found.object, "/spec/nodeName");
        if let Some(node) = node
            && (place != node || uid.is_empty())
        {
            return Err(refuse(
                account,
                "node requested token bound to a pod scheduled on a different node",
            ));
        }
        if let Some(node) = self.node_uid(place).await? {
            about["node"] = json!({"name": place, "uid": node});
        }
        Ok(())
    }

    async fn node_uid(&self, name: &str) -> Result<Option<String>, Status> {
        let Some(kind) = kinds::by_path("", "v1", "nodes").filter(|_| !name.is_empty()) else {
            return Ok(None);
        };
        let found = self.fetch_as(&Address::new(kind, None, name), true).await?;
        Ok(found.map(|found| str_at(&found.object, "/metadata/uid").to_owned()))
    }
}

fn refuse(account: &Address, why: &str) -> Status {
    Status::forbidden(account.kind.plural, account.kind.group, &account.name, why)
}
