//! What the API serves, asked from it: names people type to paths.
//!
//! Why discovery and not our own table: the command line then speaks to newer and older
//! servers, and knows exactly what they know.

use serde_json::Value;

use crate::client::api::ApiError;
use crate::client::http::HttpApi;

const JSON: &str = "application/json";

/// One resource that the API serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    /// Empty for the core group.
    pub group: String,
    pub version: String,
    pub kind: String,
    pub plural: String,
    pub namespaced: bool,
    /// Singular and short names.
    aliases: Vec<String>,
    /// Groups of kinds that it is listed with, such as `all`.
    categories: Vec<String>,
}

impl Served {
    /// `apps/v1`, `v1`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.clone()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// The path of the collection or of one object in it. `None` takes all namespaces.
    pub fn path(&self, namespace: Option<&str>, name: Option<&str>) -> String {
        let root = if self.group.is_empty() { "/api" } else { "/apis" };
        let mut path = format!("{root}/{}", self.api_version());
        if let Some(namespace) = namespace.filter(|_| self.namespaced) {
            path.push_str("/namespaces/");
            path.push_str(namespace);
        }
        for part in [Some(self.plural.as_str()), name].into_iter().flatten() {
            path.push('/');
            path.push_str(part);
        }
        path
    }

    /// `deployment.apps/web`, as kubectl names an object.
    pub fn display(&self, name: &str) -> String {
        let kind = self.kind.to_lowercase();
        if self.group.is_empty() {
            format!("{kind}/{name}")
        } else {
            format!("{kind}.{}/{name}", self.group)
        }
    }

    fn answers_to(&self, text: &str) -> bool {
        let (name, group) = text.split_once('.').unwrap_or((text, ""));
        let named = self.plural == name
            || self.kind.to_lowercase() == name
            || self.aliases.iter().any(|alias| alias == name);
        named && (group.is_empty() || group == self.group)
    }
}

/// Everything the API serves.
#[derive(Clone, Debug, Default)]
pub struct Catalogue {
    served: Vec<Served>,
}

impl Catalogue {
    /// Asks the API.
    pub async fn fetch(api: &HttpApi) -> Result<Self, ApiError> {
        let mut catalogue = Catalogue::default();
        let core = api.get_raw("/api/v1", &[], JSON).await?;
        catalogue.add("", "v1", &core);
        let groups = api.get_raw("/apis", &[], JSON).await?;
        for group in groups["groups"].as_array().into_iter().flatten() {
            let Some(name) = group["name"].as_str() else { continue };
            // The preferred one first: a name without a version means that.
            let versions = group["versions"].as_array().into_iter().flatten();
            for version in versions.filter_map(|version| version["version"].as_str()) {
                let list = api.get_raw(&format!("/apis/{name}/{version}"), &[], JSON).await?;
                catalogue.add(name, version, &list);
            }
        }
        Ok(catalogue)
    }

    fn add(&mut self, group: &str, version: &str, list: &Value) {
        for entry in list["resources"].as_array().into_iter().flatten() {
            let (Some(plural), Some(kind)) = (entry["name"].as_str(), entry["kind"].as_str())
            else {
                continue;
            };
            if plural.contains('/') {
                continue;
            }
            let short = entry["shortNames"].as_array().into_iter().flatten();
            let names = short.chain([&entry["singularName"]]).filter_map(Value::as_str);
            let categories = entry["categories"].as_array().into_iter().flatten();
            let categories = categories.filter_map(Value::as_str).map(str::to_owned).collect();
            self.served.push(Served {
                categories,
                group: group.to_owned(),
                version: version.to_owned(),
                kind: kind.to_owned(),
                plural: plural.to_owned(),
                namespaced: entry["namespaced"] == true,
                aliases: names.filter(|name| !name.is_empty()).map(str::to_owned).collect(),
            });
        }
    }

    /// By plural, singular, kind or short name, with or without `.group`.
    pub fn by_name(&self, text: &str) -> Option<&Served> {
        let text = text.to_lowercase();
        self.served.iter().find(|served| served.answers_to(&text))
    }

    /// All kinds of a category, each in its preferred version; none if there is no such
    /// category.
    pub fn category(&self, name: &str) -> Vec<&Served> {
        let mut found: Vec<&Served> = Vec::new();
        for served in self.served.iter().filter(|one| one.categories.iter().any(|own| own == name))
        {
            if !found.iter().any(|one| (&one.group, &one.plural) == (&served.group, &served.plural))
            {
                found.push(served);
            }
        }
        found
    }

    /// By what a manifest says.
    pub fn by_kind(&self, api_version: &str, kind: &str) -> Option<&Served> {
        let mut served = self.served.iter();
        served.find(|served| served.kind == kind && served.api_version() == api_version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn people_may_say_plural_singular_kind_short_name_and_group() {
        let mut catalogue = Catalogue::default();
        catalogue.add(
            "",
            "v1",
            &json!({"resources": [
            {"name": "pods", "singularName": "pod", "shortNames": ["po"], "kind": "Pod",
             "namespaced": true},
            {"name": "pods/log", "kind": "Pod", "namespaced": true}]}),
        );
        catalogue.add(
            "apps",
            "v1",
            &json!({"resources": [
            {"name": "deployments", "singularName": "deployment", "shortNames": ["deploy"],
             "kind": "Deployment", "namespaced": true}]}),
        );
        for text in ["deployments", "deployment", "Deployment", "deploy", "deployments.apps"] {
            let found = catalogue.by_name(text).unwrap();
            assert_eq!(
                found.path(Some("shop"), Some("web")),
                "/apis/apps/v1/namespaces/shop/deployments/web"
            );
            assert_eq!(found.display("web"), "deployment.apps/web");
        }
        assert!(catalogue.by_name("deploy.batch").is_none());
        assert_eq!(catalogue.by_kind("v1", "Pod").unwrap().plural, "pods");
        assert!(catalogue.by_kind("v2", "Pod").is_none());
    }
}
