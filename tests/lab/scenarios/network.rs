//! The network as users meet it: ports of nodes, an address that moves, policies, ingress.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use libtest_mimic::Failed;
use serde_json::Value;

use crate::harness::{
    Lab, Outcome, PATIENCE, contains, ensure, eventually, failed, output, succeed, text,
};
use crate::scenarios::NODES;

const ADDRESSES: [(&str, &str); 3] =
    [("a1", "10.77.0.11"), ("b1", "10.77.0.21"), ("c1", "10.77.0.31")];

fn address(node: &str) -> &'static str {
    ADDRESSES.iter().find(|(name, _)| *name == node).map_or("", |(_, address)| *address)
}

fn container(version: &str) -> String {
    format!(
        "{{name: main, image: 'hello:1', ports: [{{name: http, containerPort: 8080}}], \
         readinessProbe: {{httpGet: {{path: /readyz, port: 8080}}, periodSeconds: 1}}, \
         env: [{{name: VERSION, value: {version}}}, \
         {{name: NODE_NAME, valueFrom: {{fieldRef: {{fieldPath: spec.nodeName}}}}}}, \
         {{name: POD_NAME, valueFrom: {{fieldRef: {{fieldPath: metadata.name}}}}}}]}}"
    )
}

/// A pod on every node, and Services in front of them.
fn edge() -> String {
    let service = |name: &str, port: u16, more: &str| {
        format!(
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: default}}\n\
             spec:\n  selector: {{app: edge}}\n  {more}\n  \
             ports: [{{name: http, port: 80, targetPort: http, nodePort: {port}}}]\n"
        )
    };
    let pool = "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: load-balancer-pools, \
        namespace: kube-system}\ndata:\n  lab: 'addresses: [10.77.0.200-10.77.0.203]'\n";
    format!(
        "apiVersion: apps/v1\nkind: DaemonSet\nmetadata: {{name: edge, namespace: default}}\n\
         spec:\n  selector: {{matchLabels: {{app: edge}}}}\n  template:\n    \
         metadata: {{labels: {{app: edge}}}}\n    spec:\n      \
         terminationGracePeriodSeconds: 2\n      containers: [{}]\n{}{}{}{}{pool}",
        container("one"),
        service("edge", 30_180, "type: NodePort"),
        service("edge-local", 30_181, "type: NodePort\n  externalTrafficPolicy: Local"),
        service("edge-sticky", 30_182, "type: NodePort\n  sessionAffinity: ClientIP"),
        service("edge-lb", 30_183, "type: LoadBalancer"),
    )
}

fn apply(lab: &Lab, manifest: &str) -> Outcome {
    let place = tempfile::tempdir().map_err(|error| failed("temporary folder", error))?;
    let file = place.path().join("network.yaml");
    fs::write(&file, manifest).map_err(|error| failed("manifest", error))?;
    let path = file.to_string_lossy().into_owned();
    succeed(&mut lab.holdfast(&["apply", "-f", &path])?).map(|_| ())
}

/// `curl` from the network of a process.
fn curl_from(pid: i64, arguments: &[&str]) -> Command {
    let mut command = Command::new("nsenter");
    command.args(["-t", &pid.to_string(), "-n", "curl", "-sS", "-m", "3"]).args(arguments);
    command
}

/// What the sample says, as heard from a host's network.
fn heard(lab: &Lab, from: &str, url: &str) -> Result<Value, Failed> {
    let said = succeed(&mut curl_from(lab.pid(from)?, &[url]))?;
    serde_json::from_str(&said).map_err(|error| failed(format!("{url}: {said}"), error))
}

fn words(answers: &[Value], field: &str) -> BTreeSet<String> {
    answers.iter().map(|one| one[field].as_str().unwrap_or_default().to_owned()).collect()
}

fn several(lab: &Lab, from: &str, url: &str) -> Result<Vec<Value>, Failed> {
    (0..10).map(|_| heard(lab, from, url)).collect()
}

fn service(lab: &Lab, name: &str) -> Result<Value, Failed> {
    let all = lab.objects("services")?;
    let found = all.into_iter().find(|one| one["metadata"]["name"] == name);
    found.ok_or_else(|| format!("there is no Service {name}").into())
}

pub(crate) fn from_outside(lab: &Lab) -> Outcome {
    apply(lab, &edge())?;
    lab.pods_ready("edge", 3, |_| true)?;
    eventually("a node's port leads to pods of several nodes", PATIENCE, || {
        let nodes = words(&several(lab, "b1", "http://10.77.0.11:30180/")?, "node");
        ensure(nodes.len() > 1, || format!("{nodes:?}"))
    })?;
    eventually("the policy Local keeps to the node and shows the client", PATIENCE, || {
        let answers = several(lab, "b1", "http://10.77.0.11:30181/")?;
        let (nodes, clients) = (words(&answers, "node"), words(&answers, "client"));
        let wanted = (BTreeSet::from(["a1".to_owned()]), BTreeSet::from(["10.77.0.21".to_owned()]));
        ensure((&nodes, &clients) == (&wanted.0, &wanted.1), || format!("{nodes:?} {clients:?}"))
    })?;
    eventually("a client stays with one pod", PATIENCE, || {
        let pods = words(&several(lab, "b1", "http://10.77.0.11:30182/")?, "pod");
        ensure(pods.len() == 1, || format!("{pods:?}"))
    })?;
    address_moves(lab)?;
    for name in ["edge", "edge-local", "edge-sticky", "edge-lb"] {
        succeed(&mut lab.holdfast(&["delete", "service", name])?)?;
    }
    succeed(&mut lab.holdfast(&["delete", "daemonset", "edge"])?)?;
    let pools = ["delete", "configmap", "load-balancer-pools", "-n", "kube-system"];
    succeed(&mut lab.holdfast(&pools)?).map(|_| ())
}

/// The hardware address that a host's neighbours see for an address, after asking anew.
fn neighbour(lab: &Lab, from: &str, address: &str) -> Result<String, Failed> {
    let pid = lab.pid(from)?;
    // Any port will do: the question is who answers for the address on the segment.
    let url = format!("https://{address}:6443/healthz");
    succeed(&mut curl_from(pid, &["-k", &url]))?;
    let mut show = Command::new("nsenter");
    show.args(["-t", &pid.to_string(), "-n", "ip", "neigh", "show", address]);
    let shown = succeed(&mut show)?;
    let mut words = shown.split_whitespace().skip_while(|word| *word != "lladdr");
    words.nth(1).map(str::to_owned).ok_or_else(|| format!("no neighbour: {shown}").into())
}

fn address_moves(lab: &Lab) -> Outcome {
    let announced = |not: &str| {
        eventually("a node announces the address", PATIENCE, || {
            let found = service(lab, "edge-lb")?;
            let ip = found["status"]["loadBalancer"]["ingress"][0]["ip"].as_str();
            let by = found["metadata"]["annotations"]["holdfast.io/announced-by"].as_str();
            match (ip, by) {
                (Some(ip), Some(by)) if by != not => Ok((ip.to_owned(), by.to_owned())),
                _ => Err(found.to_string().into()),
            }
        })
    };
    let (ip, first) = announced("")?;
    let shown = succeed(&mut lab.holdfast(&["get", "service", "edge-lb"])?)?;
    contains("get service", &shown, &["LoadBalancer", &ip, "80:30183/TCP"])?;
    let watcher = NODES.into_iter().find(|node| *node != first).unwrap_or("a1");
    let before =
        eventually("it answers on the segment", PATIENCE, || neighbour(lab, watcher, &ip))?;
    let own = |lab: &Lab| neighbour(lab, watcher, address(&first));
    ensure(before == own(lab)?, || format!("{before} answers, {first} is named"))?;
    lab.fault("kill", &first)?;
    let (_, second) = announced(&first)?;
    eventually("the next one answers on the segment", PATIENCE, || {
        // A host does not ask the segment about what is its own.
        let watcher = NODES.into_iter().find(|node| *node != first && *node != second);
        let watcher = watcher.unwrap_or("a1");
        let now = neighbour(lab, watcher, &ip)?;
        let wanted = neighbour(lab, watcher, address(&second))?;
        ensure(now == wanted && now != before, || format!("{now}, wanted {wanted}"))?;
        heard(lab, watcher, &format!("http://{ip}/")).map(|_| ())
    })?;
    lab.fault("start", &first)?;
    lab.settled(3)
}

/// A process of a pod, by the machine's numbers.
fn pod_pid(name: &str) -> Result<i64, Failed> {
    let wanted = format!("POD_NAME={name}\0");
    let processes = fs::read_dir("/proc").map_err(|error| failed("/proc", error))?;
    for process in processes.flatten() {
        let Ok(pid) = process.file_name().to_string_lossy().parse::<i64>() else { continue };
        // Processes end while they are looked at.
        let environment = fs::read(process.path().join("environ")).unwrap_or_default();
        if String::from_utf8_lossy(&environment).contains(&wanted) {
            return Ok(pid);
        }
    }
    Err(format!("no process of pod {name}").into())
}

fn policy(name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n\
         metadata: {{name: {name}, namespace: default}}\nspec: {spec}\n"
    )
}

pub(crate) fn policies(lab: &Lab) -> Outcome {
    let parts = ["web", "db", "other"];
    let pods: String = parts
        .iter()
        .zip(NODES)
        .map(|(name, node)| {
            format!(
                "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: default, \
                 labels: {{app: {name}}}}}\nspec:\n  nodeName: {node}\n  \
                 terminationGracePeriodSeconds: 1\n  containers: [{}]\n",
                container("one")
            )
        })
        .collect();
    apply(lab, &pods)?;
    let mut ends = Vec::new();
    for name in parts {
        let found = lab.pods_ready(name, 1, |_| true)?;
        let ip = found[0]["status"]["podIP"].as_str().unwrap_or_default().to_owned();
        ends.push((name, pod_pid(name)?, ip));
    }
    let matrix = |wanted: &[&str]| {
        eventually(&format!("reached are {wanted:?}"), PATIENCE, || {
            let mut asking = Vec::new();
            for (from, pid, _) in &ends {
                for (to, _, ip) in ends.iter().filter(|(to, _, _)| to != from) {
                    let url = format!("http://{ip}:8080/");
                    let mut command = curl_from(*pid, &["-m", "1", &url]);
                    asking.push((
                        format!("{from}>{to}"),
                        std::thread::spawn(move || output(&mut command)),
                    ));
                }
            }
            // All at once: what is dropped takes its whole time.
            let mut reached = Vec::new();
            for (pair, answer) in asking {
                let answer = answer.join().map_err(|_| "a client panicked")??;
                if answer.status.success() {
                    reached.push(pair);
                }
            }
            ensure(reached == wanted, || format!("{reached:?}"))
        })
    };
    matrix(&["web>db", "web>other", "db>web", "db>other", "other>web", "other>db"])?;
    apply(lab, &policy("closed", "{podSelector: {}, policyTypes: [Ingress, Egress]}"))?;
    matrix(&[])?;
    apply(
        lab,
        &policy(
            "db",
            "{podSelector: {matchLabels: {app: db}}, ingress: [{from: \
        [{podSelector: {matchLabels: {app: web}}}], ports: [{port: http}]}]}",
        ),
    )?;
    apply(
        lab,
        &policy(
            "web",
            "{podSelector: {matchLabels: {app: web}}, policyTypes: [Egress], \
        egress: [{to: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: default}}}],\
        ports: [{port: 8000, endPort: 8080}]}]}",
        ),
    )?;
    matrix(&["web>db"])?;
    // Probes come from the node itself: all are still ready.
    for name in parts {
        lab.pods_ready(name, 1, |_| true)?;
    }
    let described = succeed(&mut lab.holdfast(&["describe", "netpol", "db"])?)?;
    contains("describe", &described, &["PodSelector: app=web", "To Port: http/TCP"])?;
    for name in ["closed", "db", "web"] {
        succeed(&mut lab.holdfast(&["delete", "networkpolicy", name])?)?;
    }
    matrix(&["web>db", "web>other", "db>web", "db>other", "other>web", "other>db"])?;
    for name in parts {
        succeed(&mut lab.holdfast(&["delete", "pod", name])?)?;
    }
    Ok(())
}

fn front(version: &str) -> String {
    format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: front, namespace: default}}\n\
         spec:\n  replicas: 3\n  selector: {{matchLabels: {{app: front}}}}\n  template:\n    \
         metadata: {{labels: {{app: front}}}}\n    spec:\n      \
         terminationGracePeriodSeconds: 5\n      containers: [{}]\n---\n\
         apiVersion: v1\nkind: Service\nmetadata: {{name: front, namespace: default}}\n\
         spec: {{selector: {{app: front}}, ports: [{{port: 80, targetPort: http}}]}}\n---\n\
         apiVersion: networking.k8s.io/v1\nkind: Ingress\n\
         metadata: {{name: front, namespace: default}}\nspec:\n  \
         tls: [{{hosts: [front.example.com], secretName: front}}]\n  rules:\n    \
         - host: front.example.com\n      http: {{paths: [{{path: /, pathType: Prefix, \
         backend: {{service: {{name: front, port: {{number: 80}}}}}}}}]}}\n",
        container(version)
    )
}

/// A Secret with a certificate, and the certificate.
fn secret() -> Result<(String, String), Failed> {
    let made = rcgen::generate_simple_self_signed(vec!["front.example.com".to_owned()])
        .map_err(|error| failed("certificate", error))?;
    let indent = |text: String| text.trim().replace('\n', "\n    ");
    let manifest = format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: front, namespace: default}}\n\
         type: kubernetes.io/tls\nstringData:\n  tls.crt: |\n    {}\n  tls.key: |\n    {}\n",
        indent(made.cert.pem()),
        indent(made.signing_key.serialize_pem()),
    );
    Ok((manifest, made.cert.pem()))
}

pub(crate) fn ingress(lab: &Lab) -> Outcome {
    let (manifest, certificate) = secret()?;
    apply(lab, &manifest)?;
    apply(lab, &front("one"))?;
    lab.pods_ready("front", 3, |_| true)?;
    let place = tempfile::tempdir().map_err(|error| failed("temporary folder", error))?;
    let trusted = place.path().join("ca.pem");
    fs::write(&trusted, certificate).map_err(|error| failed("certificate", error))?;
    let trusted = trusted.to_string_lossy().into_owned();
    let pid = lab.pid("c1")?;
    let ask = move || -> Result<Value, Failed> {
        let resolve = "front.example.com:443:10.77.0.11";
        let arguments =
            ["--fail", "--cacert", &trusted, "--resolve", resolve, "https://front.example.com/"];
        let said = succeed(&mut curl_from(pid, &arguments))?;
        serde_json::from_str(&said).map_err(|error| failed(said, error))
    };
    eventually("it is served by TLS", PATIENCE, || {
        let said = ask()?;
        ensure(said["version"] == "one" && said["host"] == "front.example.com", || said.to_string())
    })?;
    eventually("its status names the nodes", PATIENCE, || {
        let shown = succeed(&mut lab.holdfast(&["get", "ingress", "front"])?)?;
        let wanted = ["holdfast", "front.example.com", "10.77.0.11,10.77.0.21,10.77.0.31", "443"];
        contains("get ingress", &shown, &wanted)
    })?;
    let done = Arc::new(AtomicBool::new(false));
    let (stop, steady) = (done.clone(), ask.clone());
    let asking = std::thread::spawn(move || {
        let (mut answered, mut lost) = (0, Vec::new());
        while !stop.load(Ordering::Relaxed) {
            match steady() {
                Ok(_) => answered += 1,
                Err(error) => lost.push(error.message().unwrap_or_default().to_owned()),
            }
        }
        (answered, lost)
    });
    apply(lab, &front("two"))?;
    let rolled = eventually("only the new pods answer", PATIENCE, || {
        let versions: Vec<Value> = (0..6).map(|_| ask()).collect::<Result<_, _>>()?;
        let versions = words(&versions, "version");
        ensure(versions == BTreeSet::from(["two".to_owned()]), || format!("{versions:?}"))
    });
    let left = lab.pods_ready("front", 3, |_| true);
    done.store(true, Ordering::Relaxed);
    let (answered, lost) = asking.join().map_err(|_| "the client panicked")?;
    rolled?;
    left?;
    ensure(lost.is_empty() && answered > 20, || {
        format!("{answered} answered, {} lost: {lost:?}", lost.len())
    })?;
    for (kind, name) in
        [("ingress", "front"), ("service", "front"), ("deployment", "front"), ("secret", "front")]
    {
        succeed(&mut lab.holdfast(&["delete", kind, name])?)?;
    }
    // Nobody listens where there is nothing to serve.
    eventually("the ports are free again", PATIENCE, || {
        let answer = output(&mut curl_from(pid, &["http://10.77.0.11/"]))?;
        ensure(!answer.status.success(), || text(&answer))
    })
}
