//! Roles, escalation, default roles, and tokens, over a store in memory.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{API_AUDIENCE, Author, Identity, NewUserToken, Origin, Request};
use crate::model::kinds::{self, Kind};
use crate::model::rbac::{GROUP, Rule};
use crate::model::status::Status;
use crate::objects::memory_kv::MemoryKv;
use crate::objects::{Address, DeleteRequest, Objects, ObjectsOptions, WriteOptions};

pub(super) fn kind(group: &str, plural: &str) -> &'static Kind {
    kinds::by_path(group, "v1", plural).unwrap()
}

pub(super) struct World {
    pub(super) kv: Arc<MemoryKv>,
    pub(super) objects: Objects,
}

impl World {
    pub(super) async fn new() -> Self {
        let kv = Arc::new(MemoryKv::new());
        let world = Self::over(&kv);
        world.objects.ensure_bootstrap().await.unwrap();
        world
    }

    /// Another control node over the same store.
    fn over(kv: &Arc<MemoryKv>) -> Self {
        let options = ObjectsOptions { service_range: "10.96.0.0/28".parse().unwrap() };
        Self { kv: kv.clone(), objects: Objects::new(kv.clone(), options) }
    }

    /// Creates something as somebody, in `default` where it has a namespace.
    pub(super) async fn create(
        &self,
        who: &Identity,
        group: &str,
        plural: &str,
        object: Value,
    ) -> Result<Value, Status> {
        let kind = kind(group, plural);
        let origin = Origin { uri: "/test".into(), ..Origin::default() };
        let author = Author::new(who.clone(), None, origin, "create", kind, None);
        let options = WriteOptions { author: Some(Arc::new(author)), ..WriteOptions::default() };
        let namespace = kind.namespaced.then_some("default");
        self.objects.create(kind, namespace, object, options).await
    }

    async fn may(&self, who: &Identity, verb: &str, resource: &str, namespace: &str) -> bool {
        let request =
            Request { verb, group: "", resource, subresource: None, namespace, name: "x" };
        self.objects.access(who, &request).await.unwrap().is_some()
    }

    async fn delete(&self, plural: &str, name: &str) {
        let request = DeleteRequest { grace_period_seconds: Some(0), ..DeleteRequest::default() };
        self.objects.delete(&self.at(plural, name), &request).await.unwrap();
    }

    fn at(&self, plural: &str, name: &str) -> Address {
        let kind = kind("", plural);
        Address::new(kind, kind.namespaced.then_some("default"), name)
    }

    async fn token(
        &self,
        account: &str,
        spec: Value,
        node: Option<&str>,
    ) -> Result<String, Status> {
        let account = self.at("serviceaccounts", account);
        let issued = self.objects.issue_account_token(&account, &spec, node).await?;
        Ok(issued.token)
    }

    async fn whose(&self, token: &str) -> Option<Identity> {
        let found = self.objects.authenticate(token, &[]).await.unwrap();
        found.map(|found| found.identity)
    }

    async fn pod(&self, name: &str, node: &str, account: &str) -> Value {
        let spec = json!({"nodeName": node, "serviceAccountName": account,
            "containers": [{"name": "c", "image": "c:1"}]});
        let pod = json!({"metadata": {"name": name}, "spec": spec});
        self.create(&admin(), "", "pods", pod).await.unwrap()
    }
}

pub(super) fn admin() -> Identity {
    Identity::new("admin", &["system:masters"]).authenticated()
}

fn user(name: &str) -> Identity {
    Identity::new(name, &[]).authenticated()
}

fn role(name: &str, rules: &[Rule]) -> Value {
    json!({"metadata": {"name": name}, "rules": rules})
}

fn binding(name: &str, kind: &str, role: &str, user: &str) -> Value {
    json!({
        "metadata": {"name": name}, "roleRef": {"kind": kind, "name": role},
        "subjects": [{"kind": "User", "name": user}],
    })
}

#[tokio::test]
async fn a_right_holds_from_its_binding_to_its_end() {
    let world = World::new().await;
    let jane = user("jane");
    assert!(!world.may(&jane, "get", "pods", "default").await);
    let read = Rule::resources(&["get"], &[""], &["pods"]);
    world.create(&admin(), GROUP, "roles", role("read", &[read])).await.unwrap();
    world
        .create(&admin(), GROUP, "rolebindings", binding("b", "Role", "read", "jane"))
        .await
        .unwrap();
    // The very next question knows it, and so does a control node that just starts.
    assert!(world.may(&jane, "get", "pods", "default").await);
    assert!(World::over(&world.kv).may(&jane, "get", "pods", "default").await);
    assert!(!world.may(&jane, "get", "pods", "kube-system").await);
    assert!(!world.may(&user("joe"), "get", "pods", "default").await);
    let request = DeleteRequest::default();
    let address = Address::new(kind(GROUP, "rolebindings"), Some("default"), "b");
    world.objects.delete(&address, &request).await.unwrap();
    assert!(!world.may(&jane, "get", "pods", "default").await);
}

#[tokio::test]
async fn an_overtaken_watch_of_rights_begins_anew() {
    let world = World::new().await;
    let jane = user("jane");
    assert!(!world.may(&jane, "get", "nodes", "").await);
    // Another control node writes and history is forgotten before this one looks again.
    let other = World::over(&world.kv);
    other
        .create(
            &admin(),
            GROUP,
            "clusterrolebindings",
            binding("all", "ClusterRole", "cluster-admin", "jane"),
        )
        .await
        .unwrap();
    crate::store::Kv::compact(&*world.kv, world.kv.revision()).await.unwrap();
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
    while !world.may(&jane, "get", "nodes", "").await {
        assert!(tokio::time::Instant::now() < deadline, "the right never came");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn default_roles_are_there_and_are_mended() {
    let world = World::new().await;
    let request = |verb, group, resource| Request {
        verb,
        group,
        resource,
        subresource: None,
        namespace: "",
        name: "",
    };
    let anybody = user("anybody");
    let review = request("create", "authorization.k8s.io", "selfsubjectaccessreviews");
    assert!(world.objects.access(&anybody, &review).await.unwrap().is_some());
    let url = |who: Identity, path: &'static str| {
        let objects = &world.objects;
        async move { objects.access_url(&who, "get", path).await.unwrap().is_some() }
    };
    let nobody = || Identity::new("system:anonymous", &[]).authenticated();
    assert!(url(anybody.clone(), "/apis/apps/v1").await);
    assert!(!url(nobody(), "/apis").await);
    assert!(url(nobody(), "/version").await);
    assert!(!url(anybody.clone(), "/metrics").await);
    let roles = kind(GROUP, "clusterroles");
    let at = |name: &str| Address::new(roles, None, name);
    let mut basic = world.objects.get(&at("system:basic-user"), None).await.unwrap();
    let extra = json!({"verbs": ["get"], "apiGroups": [""], "resources": ["nodes"]});
    basic["rules"] = json!([extra]);
    world
        .objects
        .update(&at("system:basic-user"), None, basic, WriteOptions::default())
        .await
        .unwrap();
    let mut own = world.objects.get(&at("system:discovery"), None).await.unwrap();
    own["rules"] = json!([]);
    own["metadata"]["annotations"]["rbac.authorization.kubernetes.io/autoupdate"] = "false".into();
    world
        .objects
        .update(&at("system:discovery"), None, own, WriteOptions::default())
        .await
        .unwrap();
    let bindings = kind(GROUP, "clusterrolebindings");
    let place = Address::new(bindings, None, "cluster-admin");
    world.objects.delete(&place, &DeleteRequest::default()).await.unwrap();
    world.objects.ensure_bootstrap().await.unwrap();
    let mended = world.objects.get(&at("system:basic-user"), None).await.unwrap();
    let rules: Vec<Rule> = serde_json::from_value(mended["rules"].clone()).unwrap();
    assert_eq!(serde_json::to_value(&rules[0]).unwrap(), extra, "what was added stays");
    assert!(world.objects.access(&anybody, &review).await.unwrap().is_some());
    assert!(!url(anybody, "/apis/apps/v1").await, "what is not ours to update stays");
    world.objects.get(&place, None).await.unwrap();
    let before = world.kv.revision();
    world.objects.ensure_bootstrap().await.unwrap();
    assert_eq!(world.kv.revision(), before, "a second start changes nothing");
}

#[tokio::test]
async fn nobody_gives_more_than_he_has() {
    let world = World::new().await;
    let jane = user("jane");
    let pods = Rule::resources(&["get", "list"], &[""], &["pods"]);
    let rbac = Rule::resources(&["*"], &[GROUP], &["roles", "rolebindings"]);
    // "*" is also escalate and bind: those must not be among the verbs she has.
    let rbac = Rule { verbs: ["create", "update", "patch"].map(str::to_owned).to_vec(), ..rbac };
    world.create(&admin(), GROUP, "roles", role("base", &[pods.clone(), rbac])).await.unwrap();
    world
        .create(&admin(), GROUP, "rolebindings", binding("base", "Role", "base", "jane"))
        .await
        .unwrap();
    world.create(&jane, GROUP, "roles", role("less", std::slice::from_ref(&pods))).await.unwrap();
    let delete = Rule::resources(&["get", "delete"], &[""], &["pods"]);
    let refused = world
        .create(&jane, GROUP, "roles", role("more", std::slice::from_ref(&delete)))
        .await
        .unwrap_err();
    assert_eq!(refused.code, 403);
    assert_eq!(
        refused.message,
        "roles.rbac.authorization.k8s.io \"more\" is forbidden: user \"jane\" (groups=[\"system:authenticated\"]) is attempting to grant RBAC permissions not currently held:\n{APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"delete\"]}"
    );
    // Not by a change of one that exists either, nor by a binding to one that has more.
    let address = Address::new(kind(GROUP, "roles"), Some("default"), "less");
    let update = |rules: Vec<Rule>| {
        let origin = Origin { uri: "/test".into(), ..Origin::default() };
        let author = Author::new(user("jane"), None, origin, "update", address.kind, None);
        let options = WriteOptions { author: Some(Arc::new(author)), ..WriteOptions::default() };
        world.objects.update(&address, None, role("less", &rules), options)
    };
    assert_eq!(update(vec![pods.clone(), delete]).await.unwrap_err().code, 403);
    update(vec![Rule::resources(&["get"], &[""], &["pods"])]).await.unwrap();
    let bind = |name: &'static str, kind: &'static str, role: &'static str| {
        world.create(&jane, GROUP, "rolebindings", binding(name, kind, role, "joe"))
    };
    assert!(bind("b1", "Role", "less").await.is_ok());
    assert_eq!(bind("b2", "ClusterRole", "cluster-admin").await.unwrap_err().code, 403);
    assert_eq!(bind("b3", "Role", "absent").await.unwrap_err().code, 404);
    // `bind` on one role lets her give it although she does not have it.
    let right = Rule::resources(&["bind"], &[GROUP], &["clusterroles"]).named(&["cluster-admin"]);
    world.create(&admin(), GROUP, "roles", role("binder", &[right])).await.unwrap();
    world
        .create(&admin(), GROUP, "rolebindings", binding("binder", "Role", "binder", "jane"))
        .await
        .unwrap();
    assert!(bind("b4", "ClusterRole", "cluster-admin").await.is_ok());
    assert_eq!(bind("b5", "ClusterRole", "system:monitoring").await.unwrap_err().code, 403);
}

#[tokio::test]
async fn an_account_token_ends_with_what_it_is_bound_to() {
    let world = World::new().await;
    world
        .create(&admin(), "", "serviceaccounts", json!({"metadata": {"name": "web"}}))
        .await
        .unwrap();
    let node = json!({"metadata": {"name": "n1"}});
    world.objects.create(kind("", "nodes"), None, node, WriteOptions::default()).await.unwrap();
    let pod = world.pod("p", "n1", "web").await;
    let bound = json!({"boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": "p",
        "uid": pod["metadata"]["uid"]}});
    let free = world.token("web", json!({}), None).await.unwrap();
    let tied = world.token("web", bound.clone(), None).await.unwrap();
    let who = world.whose(&tied).await.unwrap();
    assert_eq!(who.user, "system:serviceaccount:default:web");
    assert_eq!(
        who.groups,
        ["system:serviceaccounts", "system:serviceaccounts:default", "system:authenticated"]
    );
    assert_eq!(who.extra["authentication.kubernetes.io/pod-name"], ["p"]);
    assert_eq!(who.extra["authentication.kubernetes.io/node-name"], ["n1"]);
    // Any control node knows it, and nobody for another purpose.
    assert!(World::over(&world.kv).whose(&free).await.is_some());
    let vault = ["vault".to_owned()];
    assert!(world.objects.authenticate(&free, &vault).await.unwrap().is_none());
    let other = world.token("web", json!({"audiences": ["vault"]}), None).await.unwrap();
    assert!(world.whose(&other).await.is_none());
    let found = world.objects.authenticate(&other, &vault).await.unwrap().unwrap();
    assert_eq!(found.audiences, vault);
    world.delete("pods", "p").await;
    assert!(world.whose(&tied).await.is_none(), "its pod is gone");
    assert!(world.whose(&free).await.is_some());
    world.pod("p", "n1", "web").await;
    assert!(world.whose(&tied).await.is_none(), "another pod of the same name");
    let again = world.token("web", bound, None).await.unwrap_err();
    assert_eq!(again.code, 409, "the uid is the old pod's");
    world.delete("serviceaccounts", "web").await;
    assert!(world.whose(&free).await.is_none(), "its account is gone");
    world
        .create(&admin(), "", "serviceaccounts", json!({"metadata": {"name": "web"}}))
        .await
        .unwrap();
    assert!(world.whose(&free).await.is_none(), "another account of the same name");
}

#[tokio::test]
async fn a_node_gets_tokens_for_its_own_pods_only() {
    let world = World::new().await;
    world
        .create(&admin(), "", "serviceaccounts", json!({"metadata": {"name": "web"}}))
        .await
        .unwrap();
    let pod = world.pod("p", "n1", "web").await;
    let bound = |uid: &Value| json!({"boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": uid}});
    let uid = &pod["metadata"]["uid"];
    assert!(world.token("web", bound(uid), Some("n1")).await.is_ok());
    assert_eq!(world.token("web", bound(uid), Some("n2")).await.unwrap_err().code, 403);
    assert_eq!(world.token("web", json!({}), Some("n1")).await.unwrap_err().code, 403);
    assert_eq!(world.token("web", bound(&"".into()), Some("n1")).await.unwrap_err().code, 403);
    assert_eq!(world.token("default", bound(uid), Some("n1")).await.unwrap_err().code, 400);
    let long = world.token("web", json!({"expirationSeconds": 5}), None).await.unwrap_err();
    assert_eq!(
        long.message,
        "TokenRequest.authentication.k8s.io \"\" is invalid: spec.expirationSeconds: Invalid value: 5: may not specify a duration less than 10 minutes"
    );
}

#[tokio::test]
async fn keys_rotate_and_a_removed_key_ends_its_tokens() {
    let world = World::new().await;
    let old = world.token("default", json!({}), None).await.unwrap();
    let first = world.objects.signing_keys().await.unwrap()[0].id.clone();
    assert_eq!(world.objects.remove_signing_key(&first).await.unwrap_err().code, 400);
    let keys = world.objects.rotate_signing_key(false).await.unwrap();
    assert_eq!((keys.len(), keys[0].signs, keys[1].signs), (2, true, false));
    let new = world.token("default", json!({}), None).await.unwrap();
    assert!(world.whose(&old).await.is_some() && world.whose(&new).await.is_some());
    let set = world.objects.key_set().await.unwrap();
    assert_eq!(set["keys"].as_array().unwrap().len(), 2);
    assert_eq!(set["keys"][1]["kid"], first.as_str());
    world.objects.remove_signing_key(&first).await.unwrap();
    assert!(world.whose(&old).await.is_none());
    assert!(world.whose(&new).await.is_some());
    assert_eq!(world.objects.remove_signing_key("none").await.unwrap_err().code, 404);
    assert!(API_AUDIENCE.starts_with("https://"));
}

#[tokio::test]
async fn a_user_token_is_good_until_revoked_and_its_secret_is_not_stored() {
    let world = World::new().await;
    let wish = |user: &str, groups: &[&str], ttl_seconds| NewUserToken {
        user: user.into(),
        groups: groups.iter().map(|group| (*group).to_owned()).collect(),
        ttl_seconds,
    };
    let make = |wish: NewUserToken| {
        let objects = &world.objects;
        async move { objects.create_user_token(&wish, &admin()).await }
    };
    let (token, info) = make(wish("jane", &["dev"], None)).await.unwrap();
    let who = world.whose(&token).await.unwrap();
    assert_eq!(
        (who.user.as_str(), &who.groups[..]),
        ("jane", &["dev".to_owned(), "system:authenticated".into()][..])
    );
    let secret = token.rsplit('_').next().unwrap();
    let all =
        crate::store::Kv::range(&*world.kv, crate::model::kv::RangeRequest::prefix("/holdfast/"));
    for kv in all.await.unwrap().kvs {
        assert!(!String::from_utf8_lossy(&kv.value).contains(secret), "{:?}", kv.key);
    }
    let mut wrong = token.clone();
    wrong.pop();
    for bad in [wrong.as_str(), "hfu_0_1", "hfu_", "x", "hfu__x", "a.b.c", ""] {
        assert!(world.whose(bad).await.is_none(), "{bad}");
    }
    assert_eq!(world.objects.user_tokens().await.unwrap(), std::slice::from_ref(&info));
    world.objects.revoke_user_token(&info.id).await.unwrap();
    assert!(world.whose(&token).await.is_none());
    assert_eq!(world.objects.revoke_user_token(&info.id).await.unwrap_err().code, 404);
    for (user, groups) in [
        ("system:node:n1", &["system:nodes"][..]),
        ("jane", &["system:nodes"]),
        ("", &[]),
        ("jane", &["system:serviceaccounts"]),
    ] {
        assert_eq!(make(wish(user, groups, None)).await.unwrap_err().code, 400, "{user}");
    }
    let (token, _) = make(wish("root", &["system:masters"], Some(60))).await.unwrap();
    assert!(world.whose(&token).await.unwrap().is_master());
}

#[tokio::test]
async fn a_pod_runs_as_an_account_that_exists() {
    let world = World::new().await;
    let pod =
        json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "c:1"}]}});
    let made = world.create(&admin(), "", "pods", pod.clone()).await.unwrap();
    assert_eq!(made["spec"]["serviceAccountName"], "default");
    let mut stranger = pod;
    stranger["metadata"]["name"] = "q".into();
    stranger["spec"]["serviceAccountName"] = "absent".into();
    let refused = world.create(&admin(), "", "pods", stranger.clone()).await.unwrap_err();
    assert_eq!(
        refused.message,
        "pods \"q\" is forbidden: error looking up service account default/absent: serviceaccount \"absent\" not found"
    );
    let account = json!({"metadata": {"name": "absent"}, "imagePullSecrets": [{"name": "s"}]});
    world.create(&admin(), "", "serviceaccounts", account).await.unwrap();
    let made = world.create(&admin(), "", "pods", stranger).await.unwrap();
    assert_eq!(made["spec"]["imagePullSecrets"], json!([{"name": "s"}]));
    let shop = json!({"metadata": {"name": "shop"}});
    world.create(&admin(), "", "namespaces", shop).await.unwrap();
    let own = Address::new(kind("", "serviceaccounts"), Some("shop"), "default");
    world.objects.get(&own, None).await.unwrap();
}
