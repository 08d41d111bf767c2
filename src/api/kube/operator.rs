//! What operators ask of access beyond Kubernetes' API: tokens of users, the keys that
//! sign, the audit log. And, for whoever checks a token himself, the public keys.
//!
//! | route | what |
//! |---|---|
//! | `GET POST /holdfast/v1/access/user-tokens`, `DELETE …/ID` | tokens of users |
//! | `GET POST /holdfast/v1/access/signing-keys`, `DELETE …/ID` | keys; POST rotates, `?forgetUnreadable=true` also where the old ones cannot be read |
//! | `GET /holdfast/v1/audit?after=&limit=&revision=` | a page of the audit log |
//! | `GET /.well-known/openid-configuration`, `/openid/v1/jwks` | the issuer |
//!
//! Who may is decided by RBAC's rules about paths that are no resources, so that an
//! auditor can be given the audit log and nothing else. Writes are recorded.

use axum::extract::{Path, Query, State};
use axum::response::Response;
use axum::routing::{delete, get};
use axum::{Extension, Json, Router, middleware};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::KubeState;
use super::authentication::{self, Caller};
use super::respond::{Refusal, json_response};
use crate::model::status::Status;
use crate::objects::access::{API_AUDIENCE, AuditRead, Author, NewUserToken};

const TOKENS: &str = "/holdfast/v1/access/user-tokens";
const KEYS: &str = "/holdfast/v1/access/signing-keys";

type Answer = Result<Response, Refusal>;

pub(super) fn router(state: &KubeState) -> Router<KubeState> {
    Router::new()
        .route(TOKENS, get(list_tokens).post(create_token))
        .route("/holdfast/v1/access/user-tokens/{id}", delete(revoke_token))
        .route(KEYS, get(list_keys).post(rotate_key))
        .route("/holdfast/v1/access/signing-keys/{id}", delete(remove_key))
        .route("/holdfast/v1/audit", get(audit))
        .route("/.well-known/openid-configuration", get(configuration))
        .route("/openid/v1/jwks", get(key_set))
        .layer(middleware::from_fn_with_state(state.clone(), authentication::guard_url))
}

/// Does it and records it; nothing is answered that is not recorded.
async fn recorded(
    state: &KubeState,
    caller: Caller,
    verb: &str,
    name: &str,
    code: StatusCode,
    work: impl Future<Output = Result<Value, Status>>,
) -> Answer {
    let Caller { identity, impersonator, origin } = caller;
    let author = Author::of_url(identity, impersonator, origin, verb).about(None, Some(name));
    let done = work.await;
    let (number, reason) = match &done {
        Ok(_) => (code.as_u16(), String::new()),
        Err(status) => (status.code, status.reason.clone()),
    };
    if number < 500 {
        state.objects.record_apart(&author, number, &reason).await?;
    }
    Ok(json_response(code, &done?))
}

async fn list_tokens(State(state): State<KubeState>) -> Answer {
    let tokens = state.objects.user_tokens().await?;
    Ok(json_response(StatusCode::OK, &json!({"items": tokens})))
}

async fn create_token(
    State(state): State<KubeState>,
    Extension(caller): Extension<Caller>,
    Json(wish): Json<NewUserToken>,
) -> Answer {
    let issuer = caller.identity.clone();
    let user = wish.user.clone();
    let work = async {
        let (token, info) = state.objects.create_user_token(&wish, &issuer).await?;
        Ok(json!({"token": token, "info": info}))
    };
    recorded(&state, caller, "create", &user, StatusCode::CREATED, work).await
}

async fn revoke_token(
    State(state): State<KubeState>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Answer {
    let work = async {
        state.objects.revoke_user_token(&id).await?;
        Ok(json!({"id": id, "revoked": true}))
    };
    recorded(&state, caller, "delete", &id, StatusCode::OK, work).await
}

async fn list_keys(State(state): State<KubeState>) -> Answer {
    let keys = state.objects.signing_keys().await?;
    Ok(json_response(StatusCode::OK, &json!({"items": keys})))
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Rotation {
    forget_unreadable: bool,
}

async fn rotate_key(
    State(state): State<KubeState>,
    Extension(caller): Extension<Caller>,
    Query(how): Query<Rotation>,
) -> Answer {
    let work = async {
        let keys = state.objects.rotate_signing_key(how.forget_unreadable).await?;
        Ok(json!({"items": keys}))
    };
    recorded(&state, caller, "create", "", StatusCode::CREATED, work).await
}

async fn remove_key(
    State(state): State<KubeState>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Answer {
    let work = async { Ok(json!({"items": state.objects.remove_signing_key(&id).await?})) };
    recorded(&state, caller, "delete", &id, StatusCode::OK, work).await
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Page {
    after: u64,
    limit: usize,
    revision: i64,
}

async fn audit(State(state): State<KubeState>, Query(page): Query<Page>) -> Answer {
    let Page { after, limit, revision } = page;
    let page = state.objects.audit_page(&AuditRead { after, limit, revision }).await?;
    Ok(json_response(StatusCode::OK, &page))
}

async fn configuration() -> Response {
    let body = json!({
        "issuer": API_AUDIENCE,
        "jwks_uri": format!("{API_AUDIENCE}/openid/v1/jwks"),
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256"],
    });
    json_response(StatusCode::OK, &body)
}

async fn key_set(State(state): State<KubeState>) -> Answer {
    let mut response = json_response(StatusCode::OK, &state.objects.key_set().await?);
    let media = HeaderValue::from_static("application/jwk-set+json");
    response.headers_mut().insert(CONTENT_TYPE, media);
    Ok(response)
}
