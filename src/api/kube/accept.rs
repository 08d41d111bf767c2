//! What the client wants back.

use http::HeaderMap;
use http::header::ACCEPT;

use crate::model::status::Status;

/// The shape of the answer; the encoding is always JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Object,
    Table,
    /// Metadata only.
    Partial,
}

/// One media range of an Accept header.
#[derive(Debug, Default)]
pub(super) struct Range<'h> {
    pub(super) media: &'h str,
    parameters: Vec<(&'h str, &'h str)>,
}

impl<'h> Range<'h> {
    pub(super) fn parameter(&self, name: &str) -> Option<&'h str> {
        self.parameters.iter().find(|(own, _)| *own == name).map(|(_, value)| *value)
    }

    pub(super) fn is_json(&self) -> bool {
        ["application/json", "application/*", "*/*"].contains(&self.media)
    }
}

/// The ranges in the client's order.
pub(super) fn ranges(headers: &HeaderMap) -> Vec<Range<'_>> {
    let texts = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    texts
        .flat_map(|text| text.split(','))
        .map(|range| {
            let mut parts = range.split(';').map(str::trim);
            let media = parts.next().unwrap_or_default();
            let parameters = parts.filter_map(|part| part.split_once('=')).collect();
            Range { media, parameters }
        })
        .filter(|range| !range.media.is_empty())
        .collect()
}

/// The first shape that can be served; 406 if none can.
pub(super) fn shape(headers: &HeaderMap) -> Result<Shape, Status> {
    let ranges = ranges(headers);
    if ranges.is_empty() {
        return Ok(Shape::Object);
    }
    for range in ranges.iter().filter(|range| range.is_json()) {
        let meta_v1 = range.parameter("g").is_none_or(|group| group == "meta.k8s.io")
            && range.parameter("v").is_none_or(|version| version == "v1");
        match range.parameter("as") {
            None => return Ok(Shape::Object),
            Some("Table") if meta_v1 => return Ok(Shape::Table),
            Some("PartialObjectMetadata" | "PartialObjectMetadataList") if meta_v1 => {
                return Ok(Shape::Partial);
            }
            Some(_) => {}
        }
    }
    Err(Status::failure(
        406,
        "NotAcceptable",
        "only the following media types are accepted: application/json",
    ))
}
