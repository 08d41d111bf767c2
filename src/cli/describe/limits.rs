//! Quotas and limit ranges.

use std::collections::BTreeSet;

use serde_json::Value;

use super::sheet::Sheet;
use super::{items, scalar, text};

fn head(sheet: &mut Sheet, object: &Value) {
    sheet.field(0, "Name", text(object, "/metadata/name"));
    sheet.field(0, "Namespace", text(object, "/metadata/namespace"));
}

fn names<'v>(maps: impl IntoIterator<Item = &'v Value>) -> BTreeSet<&'v str> {
    let entries = maps.into_iter().filter_map(Value::as_object).flatten();
    entries.map(|(name, _)| name.as_str()).collect()
}

/// What is used of what.
pub(super) fn quota(sheet: &mut Sheet, quota: &Value) {
    head(sheet, quota);
    let scopes: Vec<String> = items(&quota["spec"]["scopes"]).map(scalar).collect();
    if !scopes.is_empty() {
        sheet.field(0, "Scopes", scopes.join(", "));
    }
    let status = &quota["status"];
    let rows = names([&status["hard"]]).into_iter().map(|name| {
        let used = status["used"].get(name).map_or_else(|| "0".to_owned(), scalar);
        vec![name.to_owned(), used, scalar(&status["hard"][name])]
    });
    sheet.table(0, &["Resource", "Used", "Hard"], &rows.collect::<Vec<_>>());
}

/// Bounds and defaults by type and resource.
pub(super) fn range(sheet: &mut Sheet, range: &Value) {
    const FIELDS: [&str; 5] = ["min", "max", "defaultRequest", "default", "maxLimitRequestRatio"];
    head(sheet, range);
    let mut rows = Vec::new();
    for item in items(&range["spec"]["limits"]) {
        for name in names(FIELDS.iter().map(|field| &item[*field])) {
            let amounts = FIELDS.iter().map(|field| match item[*field].get(name) {
                Some(amount) => scalar(amount),
                None => "-".to_owned(),
            });
            let row = [text(item, "/type").to_owned(), name.to_owned()];
            rows.push(row.into_iter().chain(amounts).collect());
        }
    }
    let header = [
        "Type",
        "Resource",
        "Min",
        "Max",
        "Default Request",
        "Default Limit",
        "Max Limit/Request Ratio",
    ];
    sheet.table(0, &header, &rows);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn bounds_read_as_kubectl_shows_them() {
        let mut sheet = Sheet::default();
        quota(
            &mut sheet,
            &json!({"metadata": {"name": "q", "namespace": "n"}, "spec": {"scopes": ["BestEffort"]},
                "status": {"hard": {"pods": "4", "requests.cpu": "1"}, "used": {"pods": "1"}}}),
        );
        assert_eq!(
            sheet.render(),
            "Name:       q\nNamespace:  n\nScopes:     BestEffort\nResource      Used  Hard\n--------      ----  ----\npods          1     4\nrequests.cpu  0     1\n"
        );
        let mut sheet = Sheet::default();
        range(
            &mut sheet,
            &json!({"metadata": {"name": "r", "namespace": "n"}, "spec": {"limits": [
                {"type": "Container", "max": {"cpu": "2"}, "default": {"cpu": "1"}}]}}),
        );
        let page = sheet.render();
        assert!(
            page.contains("Container  cpu       -    2    -                1              -"),
            "{page}"
        );
    }
}
