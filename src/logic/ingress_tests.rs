//! Where requests go.

use super::*;
use serde_json::json;

fn shared(values: &[Value]) -> Vec<Arc<Value>> {
    values.iter().cloned().map(Arc::new).collect()
}

fn class(name: &str, controller: &str, default: &str, made: &str) -> Value {
    json!({"metadata": {"name": name, "creationTimestamp": made,
                        "annotations": {DEFAULT_CLASS: default}},
           "spec": {"controller": controller}})
}

fn ingress(name: &str, made: &str, spec: Value) -> Value {
    let mut object = json!({"metadata": {"name": name, "namespace": "shop",
        "creationTimestamp": made, "annotations": {}}, "spec": spec});
    object["spec"]["ingressClassName"] = CLASS.into();
    object
}

fn path(path: &str, kind: &str, service: &str) -> Value {
    json!({"path": path, "pathType": kind, "backend": backend(service)})
}

fn backend(service: &str) -> Value {
    json!({"service": {"name": service, "port": {"number": 80}}})
}

fn routes(ingresses: &[Value]) -> Routes {
    let classes =
        shared(&[class(CLASS, CONTROLLER, "true", "1"), class("other", "example.com/x", "", "2")]);
    let ingresses = shared(ingresses);
    Routes::build(World { ingresses: &ingresses, classes: &classes, services: &[], slices: &[] })
}

fn found(routes: &Routes, host: &str, path: &str) -> String {
    let Some(route) = routes.find(host, path) else { return "404".into() };
    let name = &route.choices[0].1.name;
    name.trim_start_matches("shop/").trim_end_matches(":80").to_owned()
}

#[test]
fn hosts_and_paths_match_as_the_api_says() {
    let routes = routes(&[
        ingress(
            "a",
            "1",
            json!({"rules": [
            {"host": "foo.example.com", "http": {"paths": [
                path("/", "Prefix", "root"), path("/api", "Prefix", "api"),
                path("/api", "Exact", "exact"), path("/api/v2/", "Prefix", "v2"),
                path("/any", "ImplementationSpecific", "any")]}},
            {"host": "*.example.com", "http": {"paths": [path("/", "Prefix", "wild")]}}]}),
        ),
        ingress(
            "b",
            "2",
            json!({"defaultBackend": backend("last"), "rules": [
            {"host": "bar.org", "http": {"paths": [path("/x", "Exact", "x")]}},
            {"host": "foo.example.com", "http": {"paths": [path("/api", "Prefix", "late")]}}]}),
        ),
    ]);
    for (host, path, wanted) in [
        ("foo.example.com", "/", "root"),
        ("FOO.example.com", "/apix", "root"),
        ("foo.example.com", "/api", "exact"),
        ("foo.example.com", "/api/", "api"),
        ("foo.example.com", "/api/v1", "api"),
        ("foo.example.com", "/api/v2", "v2"),
        ("foo.example.com", "/api/v2/y", "v2"),
        ("foo.example.com", "/any/z", "any"),
        ("bar.example.com", "/api", "wild"),
        ("a.b.example.com", "/", "last"),
        ("example.com", "/", "last"),
        ("bar.org", "/x", "x"),
        ("bar.org", "/x/", "last"),
        ("10.0.0.1", "/", "last"),
    ] {
        assert_eq!(found(&routes, host, path), wanted, "{host}{path}");
    }
    assert_eq!(found(&Routes::default(), "bar.org", "/"), "404");
}

#[test]
fn only_ingresses_of_our_classes_count() {
    let mut foreign = ingress("f", "1", json!({"defaultBackend": backend("foreign")}));
    foreign["spec"]["ingressClassName"] = "other".into();
    let mut none = ingress("n", "1", json!({"defaultBackend": backend("none")}));
    none["spec"]["ingressClassName"] = Value::Null;
    assert_eq!(found(&routes(&[foreign, none.clone()]), "a", "/"), "404");
    none["metadata"]["annotations"]["kubernetes.io/ingress.class"] = CLASS.into();
    assert_eq!(found(&routes(&[none]), "a", "/"), "none");
    let classes = [
        class("b", "x/y", "true", "2"),
        class("a", "x/y", "true", "2"),
        class("old", "x/y", "true", "1"),
        class("no", "x/y", "false", "3"),
    ];
    assert_eq!(default_class(classes.iter()), Some("a"));
    assert_eq!(default_class(classes[3..].iter()), None);
}

#[test]
fn weights_spread_and_a_weight_of_nothing_takes_nothing() {
    let mut gray = ingress(
        "g",
        "1",
        json!({"rules": [{"http": {"paths": [
        path("/", "Prefix", "web"), path("/other", "Prefix", "other")]}}]}),
    );
    gray["metadata"]["annotations"][WEIGHTS] = "web=3, next=1, off=0, odd".into();
    let routes = routes(&[gray]);
    let route = routes.find("a", "/").unwrap();
    let names: Vec<&str> = (0..4)
        .map(|draw| {
            let chosen = route.choose(|sum| {
                assert_eq!(sum, 4);
                draw
            });
            chosen.unwrap().name.as_str()
        })
        .collect();
    assert_eq!(names, ["shop/web:80", "shop/web:80", "shop/web:80", "shop/next:80"]);
    assert_eq!(found(&routes, "a", "/other"), "other");
}

#[test]
fn endpoints_protocols_certificates_and_nodes_are_read_from_the_objects() {
    let service: Service = serde_json::from_value(json!({
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"ports": [{"name": "g", "port": 80, "appProtocol": "kubernetes.io/h2c"}]}}))
    .unwrap();
    let slice: EndpointSlice = serde_json::from_value(json!({
        "metadata": {"name": "w", "namespace": "shop",
                     "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4", "ports": [{"name": "g", "port": 8080}],
        "endpoints": [{"addresses": ["10.1.0.2"]},
                      {"addresses": ["10.1.0.3"], "conditions": {"ready": false}}]}))
    .unwrap();
    let mut secured = ingress(
        "s",
        "1",
        json!({"defaultBackend": backend("web"),
        "tls": [{"hosts": ["A.example.com"], "secretName": "cert"}]}),
    );
    secured["metadata"]["annotations"][REDIRECT] = "true".into();
    let (ingresses, classes) =
        (shared(&[secured]), shared(&[class(CLASS, CONTROLLER, "true", "1")]));
    let routes = Routes::build(World {
        ingresses: &ingresses,
        classes: &classes,
        services: &[Arc::new(service)],
        slices: &[Arc::new(slice)],
    });
    let upstream = &routes.find("a", "/").unwrap().choices[0].1;
    assert_eq!(upstream.targets, ["10.1.0.2:8080".parse().unwrap()]);
    assert_eq!(upstream.speaks, Speaks::H2c);
    let named = certificates(&ours(&ingresses, &classes));
    let expected = ("a.example.com".to_owned(), "shop".to_owned(), "cert".to_owned());
    assert_eq!(named, BTreeSet::from([expected]));
    let nodes =
        |labels: [Option<&'static str>; 3]| proxy_nodes(["a", "b", "c"].into_iter().zip(labels));
    assert_eq!(nodes([None, Some("false"), None]), ["a", "c"]);
    assert_eq!(nodes([None, Some("true"), Some("false")]), ["b"]);
}
