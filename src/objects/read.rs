//! Get and list.
//!
//! Invariants: a list is one revision's state, also over several pages; without a
//! resourceVersion a read is linearizable; `0` allows a stale one.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::decoded::Version;
use super::stored::Found;
use super::{Address, Objects, key, refusal, stored};
use crate::logic::selector::{FieldSelector, LabelSelector, SelectorError};
use crate::model::kinds::Kind;
use crate::model::kv::{KeyValue, RangeRequest, RangeResponse, Revision, prefix_end};
use crate::model::status::Status;

/// Objects read in one go when a limit meets a selector.
const PAGE_MIN: i64 = 100;

/// What to list.
#[derive(Clone, Debug)]
pub struct ListRequest {
    pub kind: &'static Kind,
    /// `None` lists all namespaces.
    pub namespace: Option<String>,
    pub labels: LabelSelector,
    pub fields: FieldSelector,
    /// 0 is no limit.
    pub limit: usize,
    pub continue_token: Option<String>,
    pub resource_version: Option<String>,
    /// `resourceVersionMatch=Exact`.
    pub exact: bool,
}

impl ListRequest {
    /// Everything of a kind.
    pub fn all(kind: &'static Kind, namespace: Option<&str>) -> Self {
        Self {
            kind,
            namespace: namespace.map(str::to_owned),
            labels: LabelSelector::default(),
            fields: FieldSelector::default(),
            limit: 0,
            continue_token: None,
            resource_version: None,
            exact: false,
        }
    }

    /// What the two selectors select, in their text form; empty selects everything.
    pub fn selecting(
        kind: &'static Kind,
        namespace: Option<&str>,
        labels: &str,
        fields: &str,
    ) -> Result<Self, Status> {
        let bad = |error: SelectorError| Status::bad_request(error.to_string());
        Ok(Self {
            labels: LabelSelector::parse(labels).map_err(bad)?,
            fields: FieldSelector::parse(fields, kind.fields).map_err(bad)?,
            ..Self::all(kind, namespace)
        })
    }

    fn selects(&self, object: &Value) -> bool {
        self.labels.matches(object) && self.fields.matches(object)
    }
}

/// A page of a list.
#[derive(Clone, Debug)]
pub struct Listing {
    pub items: Vec<Value>,
    pub revision: Revision,
    /// Asks for the next page.
    pub continue_token: Option<String>,
    /// Objects after this page, where that is known.
    pub remaining: Option<i64>,
}

/// Where the next page starts, and at which revision; opaque to clients.
#[derive(Serialize, Deserialize)]
struct Token {
    rv: Revision,
    start: String,
}

impl Token {
    fn encode(&self) -> Result<String, Status> {
        let json = serde_json::to_vec(self).map_err(Status::internal)?;
        Ok(URL_SAFE_NO_PAD.encode(json))
    }

    fn decode(text: &str, prefix: &str) -> Result<Self, Status> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok();
        let token = bytes.and_then(|bytes| serde_json::from_slice::<Token>(&bytes).ok());
        token.filter(|token| token.start.starts_with(prefix)).ok_or_else(|| {
            Status::bad_request("invalid continue token: it was not made for this list")
        })
    }
}

/// Reads a resourceVersion; empty is `None`.
pub(super) fn parse_version(text: Option<&str>) -> Result<Option<Revision>, Status> {
    match text {
        None | Some("") => Ok(None),
        Some(text) => text.parse::<u64>().ok().and_then(|version| Revision::try_from(version).ok()).map(Some).ok_or_else(|| {
            Status::bad_request(format!("resourceVersion: Invalid value: {text:?}: strconv.ParseUint: parsing {text:?}: invalid syntax"))
        }),
    }
}

impl Objects {
    pub(super) async fn fetch(&self, address: &Address) -> Result<Option<Found>, Status> {
        self.fetch_as(address, false).await
    }

    /// The object; `stale` takes the local replica's.
    pub(super) async fn fetch_as(
        &self,
        address: &Address,
        stale: bool,
    ) -> Result<Option<Found>, Status> {
        let request =
            RangeRequest { serializable: stale, ..RangeRequest::key(key::object(address)) };
        let answer = self.kv.range(request).await.map_err(refusal::of)?;
        let Some(kv) = answer.kvs.first() else { return Ok(None) };
        let object = match self.decoded.known(address.kind, kv) {
            Some(known) => Value::clone(&known),
            None => stored::decode(address.kind, kv)?,
        };
        Ok(Some(Found { object, revision: kv.mod_revision }))
    }

    /// The object for a look at it.
    pub(super) async fn look_at(&self, address: &Address) -> Result<Option<Arc<Version>>, Status> {
        let request = RangeRequest::key(key::object(address));
        let answer = self.kv.range(request).await.map_err(refusal::of)?;
        let Some(kv) = answer.kvs.first() else { return Ok(None) };
        if let Some(known) = self.decoded.known(address.kind, kv) {
            return Ok(Some(known));
        }
        Ok(Some(Arc::new(Version::new(stored::decode(address.kind, kv)?))))
    }

    /// One object; `version` `Some("0")` allows a stale answer.
    pub async fn get(&self, address: &Address, version: Option<&str>) -> Result<Value, Status> {
        let stale = parse_version(version)? == Some(0);
        let found = self.fetch_as(address, stale).await?;
        found.map(|found| found.object).ok_or_else(|| address.not_found())
    }

    /// A page of objects, all as of one revision.
    pub async fn list(&self, request: &ListRequest) -> Result<Listing, Status> {
        let prefix = key::prefix(request.kind, request.namespace.as_deref());
        let asked = parse_version(request.resource_version.as_deref())?;
        let token = match request.continue_token.as_deref() {
            None | Some("") => None,
            Some(text) => Some(Token::decode(text, &prefix)?),
        };
        let exact = if request.exact { asked.unwrap_or_default() } else { 0 };
        let (revision, start) = match token {
            Some(token) => (token.rv, token.start),
            None => (exact, prefix.clone()),
        };
        let mut range = RangeRequest {
            key: Bytes::from(start),
            range_end: prefix_end(prefix.as_bytes()),
            revision,
            serializable: asked == Some(0),
            ..RangeRequest::default()
        };
        let mut page = Page { request, items: Vec::new() };
        loop {
            range.limit = page.chunk();
            let answer = self.kv.range(range.clone()).await.map_err(refusal::of)?;
            if range.revision == 0 {
                range.revision = answer.revision;
                if let Some(asked) = asked.filter(|asked| *asked > answer.revision) {
                    return Err(refusal::too_large(asked, answer.revision));
                }
            }
            let next = page.fill(&answer)?;
            match next {
                Next::Chunk(start) => range.key = Bytes::from(start),
                Next::Page { start, remaining } => {
                    let token = Token { rv: range.revision, start };
                    return Ok(Listing {
                        items: page.items,
                        revision: range.revision,
                        continue_token: Some(token.encode()?),
                        remaining,
                    });
                }
                Next::End => break,
            }
        }
        let (items, revision) = (page.items, range.revision);
        Ok(Listing { items, revision, continue_token: None, remaining: None })
    }
}

/// Where a list goes on.
enum Next {
    /// In the same answer to the client.
    Chunk(String),
    /// In the next, the page being full.
    Page {
        start: String,
        remaining: Option<i64>,
    },
    End,
}

/// A page while it is filled.
struct Page<'r> {
    request: &'r ListRequest,
    items: Vec<Value>,
}

impl Page<'_> {
    fn is_selective(&self) -> bool {
        !self.request.labels.is_empty() || !self.request.fields.is_empty()
    }

    /// How many keys to read next; 0 is all.
    fn chunk(&self) -> i64 {
        let left = self.request.limit.saturating_sub(self.items.len());
        let left = i64::try_from(left).unwrap_or(i64::MAX);
        match self.request.limit {
            0 => 0,
            _ if self.is_selective() => left.max(PAGE_MIN),
            _ => left,
        }
    }

    fn fill(&mut self, answer: &RangeResponse) -> Result<Next, Status> {
        let after = |kv: &KeyValue| format!("{}\0", String::from_utf8_lossy(&kv.key));
        for (index, kv) in answer.kvs.iter().enumerate() {
            let object = stored::decode(self.request.kind, kv)?;
            if !self.request.selects(&object) {
                continue;
            }
            self.items.push(object);
            let read = index + 1;
            let more = read < answer.kvs.len() || answer.more;
            if self.request.limit > 0 && self.items.len() == self.request.limit && more {
                let left = answer.count - i64::try_from(read).unwrap_or_default();
                let remaining = (!self.is_selective() && left > 0).then_some(left);
                return Ok(Next::Page { start: after(kv), remaining });
            }
        }
        match answer.kvs.last() {
            Some(last) if answer.more => Ok(Next::Chunk(after(last))),
            _ => Ok(Next::End),
        }
    }
}
