//! Tokens, roles, impersonation and the audit log: over HTTP and with kubectl.

use http::Method;
use serde_json::{Value, json};

use super::kubectl_tests::Kubectl;
use super::tests::Server;
use crate::objects::WriteOptions;
use crate::objects::access::{Identity, NewUserToken};

const PODS: &str = "/api/v1/namespaces/default/pods";
const ACCOUNTS: &str = "/api/v1/namespaces/default/serviceaccounts";
const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";
const AUDIT: &str = "/holdfast/v1/audit";

impl Server {
    /// A request with a bearer token and further headers.
    async fn bearing(
        &self,
        token: &str,
        method: Method,
        path: &str,
        body: Option<Value>,
        headers: &[(&str, &str)],
    ) -> (u16, Value) {
        let mut request = reqwest::Client::new().request(method, self.url(path)).bearer_auth(token);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request.send().await.unwrap();
        let code = response.status().as_u16();
        (code, response.json().await.unwrap_or_default())
    }

    async fn user_token(&self, user: &str, groups: &[&str]) -> String {
        let groups = groups.iter().map(|group| (*group).to_owned()).collect();
        let wish = NewUserToken { user: user.into(), groups, ttl_seconds: None };
        let issuer = Identity::new("test", &["system:masters"]);
        self.objects.create_user_token(&wish, &issuer).await.unwrap().0
    }

    /// Lets somebody do things by roles of a namespace or of the cluster.
    async fn grant(&self, subject: Value, namespace: Option<&str>, rules: Value) {
        let (role, binding, kind) = match namespace {
            Some(_) => ("roles", "rolebindings", "Role"),
            None => ("clusterroles", "clusterrolebindings", "ClusterRole"),
        };
        let name = format!("r-{}", crate::sys::fresh::name_suffix());
        let make = |plural: &'static str, object: Value| async move {
            let kind = crate::model::kinds::by_path("rbac.authorization.k8s.io", "v1", plural);
            let options = WriteOptions::default();
            self.objects.create(kind.unwrap(), namespace, object, options).await.unwrap();
        };
        make(role, json!({"metadata": {"name": name}, "rules": rules})).await;
        let object = json!({"metadata": {"name": name}, "subjects": [subject],
            "roleRef": {"kind": kind, "name": name}});
        make(binding, object).await;
    }

    async fn records(&self) -> Vec<Value> {
        self.objects.chain_audit().await.unwrap();
        let page = self.objects.audit_page(&Default::default()).await.unwrap();
        page.items.into_iter().map(|item| item.record).collect()
    }
}

fn user(name: &str) -> Value {
    json!({"kind": "User", "name": name})
}

#[tokio::test]
async fn tokens_open_what_roles_give_and_nothing_else() {
    let server = Server::start_as(None).await;
    let jane = server.user_token("jane", &[]).await;
    let get = |token: &str, path: &'static str| {
        let (token, server) = (token.to_owned(), &server);
        async move { server.bearing(&token, Method::GET, path, None, &[]).await }
    };
    let (code, status) = get(&jane, PODS).await;
    assert_eq!((code, status["reason"].as_str()), (403, Some("Forbidden")));
    assert!(status["message"].as_str().unwrap().contains("User \"jane\" cannot list"), "{status}");
    let rules = json!([{"verbs": ["list"], "apiGroups": [""], "resources": ["pods"]}]);
    server.grant(user("jane"), Some("default"), rules.clone()).await;
    assert_eq!(get(&jane, PODS).await.0, 200);
    assert_eq!(get(&jane, "/api/v1/pods").await.0, 403);
    assert_eq!(get(&jane, "/apis/apps/v1").await.0, 200, "discovery is for everybody with a name");
    assert_eq!(get("hfu_00_11", PODS).await.0, 401, "a worthless token is not nobody");
    assert_eq!(get("hfu_00_11", "/openapi/v3").await.0, 401);
    for path in ["/version", "/healthz", "/livez", "/readyz"] {
        let code = reqwest::get(server.url(path)).await.unwrap().status().as_u16();
        assert_eq!(code, 200, "{path}");
    }
    for path in ["/apis", "/openapi/v2", PODS, "/openid/v1/jwks", AUDIT] {
        let code = reqwest::get(server.url(path)).await.unwrap().status().as_u16();
        assert_eq!(code, 401, "{path}");
    }
    assert_eq!(get(&jane, "/openid/v1/jwks").await.0, 403);
    let root = server.user_token("root", &["system:masters"]).await;
    let ask = json!({"spec": {"audiences": [], "expirationSeconds": 600}});
    let path = format!("{ACCOUNTS}/default/token");
    let (code, _) = server.bearing(&jane, Method::POST, &path, Some(ask.clone()), &[]).await;
    assert_eq!(code, 403);
    let (code, made) = server.bearing(&root, Method::POST, &path, Some(ask), &[]).await;
    assert_eq!((code, made["kind"].as_str()), (201, Some("TokenRequest")), "{made}");
    let token = made["status"]["token"].as_str().unwrap().to_owned();
    let (code, keys) = get(&token, "/openid/v1/jwks").await;
    assert_eq!((code, keys["keys"][0]["alg"].as_str()), (200, Some("ES256")));
    let (_, issuer) = get(&token, "/.well-known/openid-configuration").await;
    assert_eq!(issuer["issuer"], "https://kubernetes.default.svc.cluster.local");
    assert_eq!(get(&token, PODS).await.0, 403);
    let account = json!({"kind": "ServiceAccount", "name": "default"});
    server.grant(account, Some("default"), rules).await;
    assert_eq!(get(&token, PODS).await.0, 200);
    let review = "/apis/authentication.k8s.io/v1/tokenreviews";
    let question = json!({"spec": {"token": token}});
    let (_, answer) = server.bearing(&root, Method::POST, review, Some(question), &[]).await;
    let status = &answer["status"];
    assert_eq!(status["authenticated"], true, "{answer}");
    assert_eq!(status["user"]["username"], "system:serviceaccount:default:default");
    assert_eq!(status["audiences"], json!(["https://kubernetes.default.svc.cluster.local"]));
    let gone =
        server.bearing(&root, Method::DELETE, &format!("{ACCOUNTS}/default"), None, &[]).await;
    assert_eq!(gone.0, 200);
    assert_eq!(get(&token, PODS).await.0, 401);
}

#[tokio::test]
async fn a_right_to_one_name_lists_and_watches_that_name() {
    let server = Server::start_as(None).await;
    let jane = server.user_token("jane", &[]).await;
    let rules = json!([{"verbs": ["list", "watch"], "apiGroups": [""],
        "resources": ["configmaps"], "resourceNames": ["own"]}]);
    server.grant(user("jane"), Some("default"), rules).await;
    let maps = "/api/v1/namespaces/default/configmaps";
    for (query, code) in [
        ("fieldSelector=metadata.name=own", 200),
        ("fieldSelector=metadata.name%3D%3Down", 200),
        ("watch=true&timeoutSeconds=1&fieldSelector=metadata.name=own", 200),
        ("fieldSelector=metadata.name=other", 403),
        ("fieldSelector=metadata.name!=own", 403),
        ("", 403),
    ] {
        let path = format!("{maps}?{query}");
        let (got, answer) = server.bearing(&jane, Method::GET, &path, None, &[]).await;
        assert_eq!(got, code, "{query}: {answer}");
    }
    let one = format!("{maps}/own");
    assert_eq!(server.bearing(&jane, Method::GET, &one, None, &[]).await.0, 403);
}

#[tokio::test]
async fn each_part_of_another_identity_needs_its_own_right() {
    let server = Server::start_as(None).await;
    let ops = server.user_token("ops", &[]).await;
    let whoami = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let ask = |headers: &'static [(&'static str, &'static str)]| {
        let (ops, server) = (ops.clone(), &server);
        async move { server.bearing(&ops, Method::POST, whoami, Some(json!({})), headers).await }
    };
    let all = &[
        ("impersonate-user", "jane"),
        ("impersonate-group", "dev"),
        ("impersonate-uid", "u-1"),
        ("impersonate-extra-example.com%2fscope", "view"),
    ];
    for (group, resource, name) in [
        ("", "users", "jane"),
        ("", "groups", "dev"),
        ("authentication.k8s.io", "uids", "u-1"),
        ("authentication.k8s.io", "userextras/example.com/scope", "view"),
    ] {
        let (code, status) = ask(all).await;
        assert_eq!(code, 403, "without the right to {resource}: {status}");
        let rules = json!([{"verbs": ["impersonate"], "apiGroups": [group],
            "resources": [resource], "resourceNames": [name]}]);
        server.grant(user("ops"), None, rules).await;
    }
    let (code, answer) = ask(all).await;
    assert_eq!(code, 201, "{answer}");
    let info = &answer["status"]["userInfo"];
    assert_eq!((&info["username"], &info["uid"]), (&json!("jane"), &json!("u-1")));
    assert_eq!(info["groups"], json!(["dev", "system:authenticated"]));
    assert_eq!(info["extra"], json!({"example.com/scope": ["view"]}));
    assert_eq!(ask(&[("impersonate-user", "joe")]).await.0, 403);
}

#[tokio::test]
async fn every_write_is_recorded_whatever_became_of_it() {
    let server = Server::start_as(None).await;
    let (jane, root) = (
        server.user_token("jane", &[]).await,
        server.user_token("root", &["system:masters"]).await,
    );
    let maps = "/api/v1/namespaces/default/configmaps";
    let map = || Some(json!({"metadata": {"name": "a"}, "data": {"k": "v"}}));
    let before = server.records().await.len();
    let one = format!("{maps}/a?fieldManager=test");
    let calls = [
        (&jane, Method::POST, maps, map(), 403),
        (&root, Method::POST, maps, map(), 201),
        (&root, Method::POST, maps, map(), 409),
        (&root, Method::PUT, one.as_str(), map(), 200),
        (&jane, Method::GET, maps, None, 403),
        (&root, Method::GET, maps, None, 200),
        (&root, Method::POST, "/api/v1/namespaces/default/configmaps?dryRun=All", map(), 409),
        (&root, Method::DELETE, "/api/v1/namespaces/default/configmaps/b", None, 404),
        (&root, Method::DELETE, maps, None, 200),
        (
            &root,
            Method::POST,
            "/api/v1/namespaces/default/serviceaccounts/default/token",
            Some(json!({})),
            201,
        ),
    ];
    for (token, method, path, body, code) in calls {
        let (got, answer) = server.bearing(token, method.clone(), path, body, &[]).await;
        assert_eq!(got, code, "{method} {path}: {answer}");
    }
    let as_joe = [("impersonate-user", "joe")];
    let (code, _) = server.bearing(&jane, Method::POST, maps, map(), &as_joe).await;
    assert_eq!(code, 403, "jane may not act as joe");
    let records = server.records().await.split_off(before);
    let told: Vec<(String, String, String, u64)> = records
        .iter()
        .map(|record| {
            let text = |pointer: &str| {
                record.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
            };
            (text("/actor/user"), text("/verb"), text("/name"), record["code"].as_u64().unwrap())
        })
        .collect();
    let told: Vec<(&str, &str, &str, u64)> = told
        .iter()
        .map(|(user, verb, name, code)| (user.as_str(), verb.as_str(), name.as_str(), *code))
        .collect();
    let wanted = [
        ("jane", "create", "a", 403),
        ("root", "create", "a", 201),
        ("root", "create", "a", 409),
        // It changed nothing, and was asked for and answered.
        ("root", "update", "a", 200),
        ("root", "delete", "b", 404),
        ("root", "deletecollection", "a", 200),
        ("root", "create", "default", 201),
        ("jane", "create", "", 403),
    ];
    assert_eq!(told, wanted);
    assert_eq!(records[3]["uri"], one.as_str());
    assert_eq!(records[6]["subresource"], "token");
    assert!(records.iter().all(|record| !record.to_string().contains("eyJ")), "no token is kept");
}

#[tokio::test]
async fn an_apply_that_creates_needs_the_right_to_create() {
    let server = Server::start_as(None).await;
    let jane = server.user_token("jane", &[]).await;
    let rule =
        |verb: &str| json!([{"verbs": [verb], "apiGroups": [""], "resources": ["configmaps"]}]);
    server.grant(user("jane"), Some("default"), rule("patch")).await;
    let path = "/api/v1/namespaces/default/configmaps/m?fieldManager=test";
    let apply = || async {
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"},
            "data": {"k": "v"}});
        let request = reqwest::Client::new().patch(server.url(path)).bearer_auth(&jane);
        let request = request.header("content-type", "application/apply-patch+yaml");
        let response = request.body(map.to_string()).send().await.unwrap();
        (response.status().as_u16(), response.json::<Value>().await.unwrap())
    };
    let (code, refused) = apply().await;
    assert_eq!(code, 403, "{refused}");
    assert!(
        refused["message"].as_str().unwrap().contains("cannot create resource \"configmaps\""),
        "{refused}"
    );
    server.grant(user("jane"), Some("default"), rule("create")).await;
    assert_eq!(apply().await.0, 201);
    assert_eq!(apply().await.0, 200);
}

#[tokio::test]
async fn a_token_is_not_made_for_a_trial() {
    let server = Server::start_as(None).await;
    let root = server.user_token("root", &["system:masters"]).await;
    let ask = || Some(json!({"spec": {"audiences": [], "expirationSeconds": 600}}));
    let path = format!("{ACCOUNTS}/default/token?dryRun=All");
    let (code, refused) = server.bearing(&root, Method::POST, &path, ask(), &[]).await;
    assert_eq!((code, refused["reason"].as_str()), (400, Some("BadRequest")), "{refused}");
    assert!(refused.pointer("/status/token").is_none(), "{refused}");
}

#[tokio::test]
async fn who_makes_user_tokens_needs_to_be_able_to_act_as_their_bearers() {
    let server = Server::start_as(None).await;
    let ops = server.user_token("ops", &[]).await;
    let tokens = "/holdfast/v1/access/user-tokens";
    let make = |groups: Value| {
        let (ops, server) = (ops.clone(), &server);
        let wish = Some(json!({"user": "joe", "groups": groups}));
        async move { server.bearing(&ops, Method::POST, tokens, wish, &[]).await.0 }
    };
    assert_eq!(make(json!([])).await, 403);
    let may_post = json!([{"verbs": ["create", "post"], "nonResourceURLs": [tokens]}]);
    server.grant(user("ops"), None, may_post).await;
    assert_eq!(make(json!([])).await, 403, "the path alone gives nobody's rights");
    let act = |resource: &str, name: &str| {
        json!([{"verbs": ["impersonate"], "apiGroups": [""], "resources": [resource],
            "resourceNames": [name]}])
    };
    server.grant(user("ops"), None, act("users", "joe")).await;
    assert_eq!(make(json!([])).await, 201);
    assert_eq!(make(json!(["dev"])).await, 403);
    assert_eq!(make(json!(["system:masters"])).await, 403);
    server.grant(user("ops"), None, act("groups", "dev")).await;
    assert_eq!(make(json!(["dev"])).await, 201);
}

#[tokio::test]
async fn warnings_of_admission_reach_the_client() {
    let server = Server::start().await;
    let labels = json!({"metadata": {"labels": {"pod-security.kubernetes.io/warn": "baseline"}}});
    let request = reqwest::Client::new().patch(server.url("/api/v1/namespaces/default"));
    let request = request.header("content-type", "application/merge-patch+json");
    assert_eq!(request.body(labels.to_string()).send().await.unwrap().status(), 200);
    let pod = json!({"metadata": {"name": "p"}, "spec": {"hostPID": true,
        "containers": [{"name": "c", "image": "c:1"}]}});
    let answer = reqwest::Client::new().post(server.url(PODS)).json(&pod).send().await.unwrap();
    assert_eq!(answer.status(), 201);
    assert_eq!(
        answer.headers()["warning"],
        "299 - \"would violate PodSecurity \\\"baseline:latest\\\": host namespaces (hostPID=true)\""
    );
}

#[tokio::test]
async fn an_auditor_reads_the_audit_log_and_nothing_else() {
    let server = Server::start_as(None).await;
    let auditor = server.user_token("auditor", &[]).await;
    let root = server.user_token("root", &["system:masters"]).await;
    let get = |token: String, path: &'static str| {
        let server = &server;
        async move { server.bearing(&token, Method::GET, path, None, &[]).await }
    };
    assert_eq!(get(auditor.clone(), AUDIT).await.0, 403);
    let rules = json!([{"verbs": ["get"], "nonResourceURLs": [AUDIT]}]);
    server.grant(user("auditor"), None, rules).await;
    let (code, page) = get(auditor.clone(), AUDIT).await;
    assert_eq!(code, 200, "{page}");
    assert!(!page["pending"].as_array().unwrap().is_empty(), "{page}");
    let tokens = "/holdfast/v1/access/user-tokens";
    assert_eq!(get(auditor.clone(), tokens).await.0, 403);
    let wish = Some(json!({"user": "joe", "groups": ["dev"]}));
    assert_eq!(server.bearing(&auditor, Method::POST, tokens, wish.clone(), &[]).await.0, 403);
    let (code, made) = server.bearing(&root, Method::POST, tokens, wish, &[]).await;
    assert_eq!(code, 201, "{made}");
    let joe = made["token"].as_str().unwrap().to_owned();
    assert_eq!(get(joe.clone(), "/apis").await.0, 200);
    let listed = get(root.clone(), tokens).await.1;
    assert!(listed["items"].as_array().unwrap().iter().any(|item| item["user"] == "joe"));
    assert!(!listed.to_string().contains(joe.rsplit('_').next().unwrap()));
    let one = format!("{tokens}/{}", made["info"]["id"].as_str().unwrap());
    assert_eq!(server.bearing(&root, Method::DELETE, &one, None, &[]).await.0, 200);
    assert_eq!(get(joe, "/apis").await.0, 401);
    let keys = "/holdfast/v1/access/signing-keys";
    let (code, rotated) = server.bearing(&root, Method::POST, keys, None, &[]).await;
    assert_eq!((code, rotated["items"].as_array().map(Vec::len)), (201, Some(2)));
    let records = server.records().await;
    let of = |verb: &str, name: &str| {
        records.iter().any(|record| record["verb"] == verb && record["name"] == name)
    };
    assert!(of("create", "joe") && of("delete", made["info"]["id"].as_str().unwrap()));
    assert_eq!(records.last().unwrap()["uri"], keys);
}

#[tokio::test]
async fn a_binding_cannot_change_its_role_and_roles_are_checked() {
    let server = Server::start().await;
    let send = |method, path: String, body| {
        let server = &server;
        async move { server.send(method, &path, body).await }
    };
    let roles = format!("{RBAC}/namespaces/default/roles");
    let bad =
        json!({"metadata": {"name": "x"}, "rules": [{"verbs": [], "nonResourceURLs": ["/x"]}]});
    let (code, status) = send(Method::POST, roles.clone(), bad).await;
    assert_eq!(code, 422);
    assert_eq!(
        status["message"],
        "Role.rbac.authorization.k8s.io \"x\" is invalid: [rules[0].verbs: Required value: verbs must contain at least one value, rules[0].nonResourceURLs: Invalid value: [\"/x\"]: namespaced rules cannot apply to non-resource URLs]"
    );
    let bindings = format!("{RBAC}/namespaces/default/rolebindings");
    let binding = |role: &str| {
        json!({"metadata": {"name": "system:b"}, "roleRef": {"kind": "ClusterRole", "name": role},
            "subjects": [user("jane")]})
    };
    let (code, made) = send(Method::POST, bindings.clone(), binding("view")).await;
    assert_eq!(
        (code, made["roleRef"]["apiGroup"].as_str()),
        (201, Some("rbac.authorization.k8s.io"))
    );
    assert_eq!(made["subjects"][0]["apiGroup"], "rbac.authorization.k8s.io");
    let (code, status) = send(Method::PUT, format!("{bindings}/system:b"), binding("edit")).await;
    assert_eq!(code, 422);
    assert!(status["message"].as_str().unwrap().ends_with("cannot change roleRef"), "{status}");
}

#[tokio::test]
async fn kubectl_manages_accounts_roles_and_tokens() {
    let Some(kubectl) = Kubectl::start().await else { return };
    let run = async |line: &str| kubectl.run(&line.split(' ').collect::<Vec<_>>()).await;
    let fails = async |line: &str| {
        let done = kubectl.try_run(&line.split(' ').collect::<Vec<_>>(), "").await;
        assert!(!done.ok, "{line}: {done:?}");
        format!("{}{}", done.out, done.err)
    };
    run("create sa web").await;
    let out = run("get sa").await;
    assert!(out.contains("SECRETS") && out.contains("web") && out.contains("default"), "{out}");
    let token = run("create token web --duration=20m --audience=vault").await;
    assert_eq!(token.trim().split('.').count(), 3, "{token}");
    run("create role reader --verb=get,list --resource=pods,pods/log").await;
    run("create rolebinding readers --role=reader --serviceaccount=default:web --user=jane --group=dev").await;
    run("create clusterrole urls --verb=get --non-resource-url=/metrics").await;
    run("create clusterrolebinding urls --clusterrole=urls --user=jane").await;
    let out = run("get rolebindings -o wide").await;
    for word in ["Role/reader", "jane", "dev", "default/web", "SERVICEACCOUNTS"] {
        assert!(out.contains(word), "{word} in {out}");
    }
    let out = run("describe role reader").await;
    assert!(out.contains("pods/log") && out.contains("[get list]"), "{out}");
    let out = run("describe rolebinding readers").await;
    assert!(out.contains("ServiceAccount") && out.contains("reader"), "{out}");
    let out = run("describe sa web").await;
    assert!(out.contains("Name:") && out.contains("Tokens:"), "{out}");
    let account = "--as=system:serviceaccount:default:web";
    assert_eq!(run("auth can-i list pods --as=jane").await.trim(), "yes");
    assert_eq!(run(&format!("auth can-i get pods/log {account}")).await.trim(), "yes");
    assert_eq!(run("auth can-i list pods --as=joe --as-group=dev").await.trim(), "yes");
    assert_eq!(run("auth can-i get /metrics --as=jane").await.trim(), "yes");
    assert!(fails("auth can-i delete pods --as=jane").await.contains("no"));
    assert!(fails("auth can-i list pods -A --as=jane").await.contains("no"));
    let out = run("auth can-i --list --as=jane").await;
    for word in
        ["pods/log", "[get list]", "/metrics", "selfsubjectaccessreviews.authorization.k8s.io"]
    {
        assert!(out.contains(word), "{word} in {out}");
    }
    run("get pods --as=jane").await;
    assert!(
        fails("get configmaps --as=jane").await.contains("cannot list resource \"configmaps\"")
    );
    let refused = fails("create role more --verb=delete --resource=pods --as=jane").await;
    assert!(refused.contains("cannot create resource \"roles\""), "{refused}");
    let wanted = "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {name: reader, namespace: default}\nrules:\n- {apiGroups: [''], resources: [pods], verbs: [watch]}\n---\napiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata: {name: readers, namespace: default}\nroleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: view}\nsubjects:\n- {apiGroup: rbac.authorization.k8s.io, kind: User, name: joe}\n";
    let out = kubectl.run_with(&["auth", "reconcile", "-f", "-"], wanted).await;
    assert!(out.contains("role.rbac.authorization.k8s.io/reader reconciled"), "{out}");
    let out = run("get role reader -o jsonpath={.rules[*].verbs}").await;
    assert!(out.contains("watch") && out.contains("get"), "what was there stays: {out}");
    let out = run("get rolebinding readers -o jsonpath={.roleRef.name}").await;
    assert_eq!(out, "view");
    let out = run("get clusterroles").await;
    assert!(out.contains("cluster-admin") && out.contains("CREATED AT"), "{out}");
    run("delete rolebinding readers").await;
    assert!(fails("auth can-i list pods --as=jane").await.contains("no"));
}
