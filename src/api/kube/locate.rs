//! From a path to what it is about, with kinds that another control node made.

use axum::response::Response;
use http::HeaderMap;

use super::KubeState;
use super::discovery::{self, Served};
use super::path::{self, Path};
use crate::model::status::Status;

/// What a path is about. For somebody who is known a kind that this node does not know yet
/// is looked for.
pub(super) async fn locate(state: &KubeState, path: &str, is_known: bool) -> Path {
    let kinds = state.objects.kinds();
    let find = |group: &str, version: &str, plural: &str| kinds.by_path(group, version, plural);
    let found = path::parse(path, &find);
    if let (Path::Unknown, true, Some((group, version, plural))) =
        (&found, is_known, path::named(path))
        && find(group, version, plural).is_none()
        && state.objects.find_kind(group, version, plural).await.is_some()
    {
        return path::parse(path, &find);
    }
    found
}

/// What discovery says about a path.
pub(super) fn described(
    served: &Served,
    path: Path,
    headers: &HeaderMap,
) -> Result<Response, Status> {
    match path {
        Path::Root { legacy } => Ok(discovery::root(served, legacy, headers)),
        Path::Group(group) => discovery::group(served, &group),
        Path::GroupVersion { group, version } => discovery::resources(served, &group, &version),
        Path::Resource(_) | Path::Unknown => Err(Status::unknown_resource()),
    }
}
