//! What a pod asks for and what a node has, in whole numbers.
//!
//! Why whole numbers: sums of floating point drift, and a node that is full must be full
//! on every replica. CPU is in thousandths of a core, memory in bytes; what does not fit
//! the unit is rounded up for requests (the node must really have it).

use k8s_openapi::api::core::v1::{Container, Node, Pod};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::amount::suffix_scale;

/// CPU and memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    pub cpu_milli: i64,
    pub memory_bytes: i64,
}

impl Amount {
    pub fn plus(self, other: Amount) -> Amount {
        Amount {
            cpu_milli: self.cpu_milli.saturating_add(other.cpu_milli),
            memory_bytes: self.memory_bytes.saturating_add(other.memory_bytes),
        }
    }

    fn max(self, other: Amount) -> Amount {
        Amount {
            cpu_milli: self.cpu_milli.max(other.cpu_milli),
            memory_bytes: self.memory_bytes.max(other.memory_bytes),
        }
    }
}

/// A port of the node that a pod takes for itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    pub protocol: String,
    /// `0.0.0.0` takes the port on every address.
    pub address: String,
    pub port: i32,
}

impl HostPort {
    pub fn conflicts_with(&self, other: &HostPort) -> bool {
        let any = |port: &HostPort| port.address == "0.0.0.0";
        self.port == other.port
            && self.protocol == other.protocol
            && (any(self) || any(other) || self.address == other.address)
    }
}

/// What a pod takes from its node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Footprint {
    pub request: Amount,
    pub ports: Vec<HostPort>,
}

/// The quantity in thousandths, rounded up; `None` if it is not a quantity.
pub fn parse_milli(quantity: &Quantity) -> Option<i64> {
    parse_scaled(&quantity.0, 1_000)
}

/// The quantity in whole units, rounded up; `None` if it is not a quantity.
pub fn parse_whole(quantity: &Quantity) -> Option<i64> {
    parse_scaled(&quantity.0, 1)
}

fn parse_scaled(text: &str, scale: i128) -> Option<i64> {
    let text = text.trim();
    let split = text.find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '+' | '-')));
    let (number, suffix) = text.split_at(split.unwrap_or(text.len()));
    let (multiplier, divisor) = match suffix_scale(suffix) {
        Some(scale) => scale,
        None => {
            let digits = suffix.strip_prefix(['e', 'E'])?;
            let power: i32 = digits.parse().ok()?;
            let ten = 10_i128.checked_pow(power.unsigned_abs().min(18))?;
            if power >= 0 { (ten, 1) } else { (1, ten) }
        }
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.len() > 18 {
        return None;
    }
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    let divisor = divisor.checked_mul(10_i128.checked_pow(fraction.len() as u32)?)?;
    let product = digits.checked_mul(multiplier)?.checked_mul(scale)?;
    let rounded = product.div_euclid(divisor) + i128::from(product.rem_euclid(divisor) != 0);
    i64::try_from(rounded).ok()
}

fn request_of(container: &Container) -> Amount {
    let Some(resources) = &container.resources else { return Amount::default() };
    let find = |name: &str| {
        let asked = resources.requests.as_ref().and_then(|requests| requests.get(name));
        // A limit without a request is a request too.
        asked.or_else(|| resources.limits.as_ref().and_then(|limits| limits.get(name)))
    };
    Amount {
        cpu_milli: find("cpu").and_then(parse_milli).unwrap_or(0),
        memory_bytes: find("memory").and_then(parse_whole).unwrap_or(0),
    }
}

/// The pod's footprint: its containers together, or the largest step of its start.
pub fn footprint(pod: &Pod) -> Footprint {
    let Some(spec) = &pod.spec else { return Footprint::default() };
    let mut running = Amount::default();
    let mut peak = Amount::default();
    for container in spec.init_containers.iter().flatten() {
        let request = request_of(container);
        if container.restart_policy.as_deref() == Some("Always") {
            running = running.plus(request);
            peak = peak.max(running);
        } else {
            peak = peak.max(running.plus(request));
        }
    }
    let mut ports = Vec::new();
    for container in &spec.containers {
        running = running.plus(request_of(container));
        for port in container.ports.iter().flatten() {
            let taken = if spec.host_network == Some(true) {
                Some(port.host_port.unwrap_or(port.container_port))
            } else {
                port.host_port
            };
            if let Some(number) = taken.filter(|number| *number > 0) {
                let address = port.host_ip.clone().filter(|address| !address.is_empty());
                ports.push(HostPort {
                    protocol: port.protocol.clone().unwrap_or_else(|| "TCP".into()),
                    address: address.unwrap_or_else(|| "0.0.0.0".into()),
                    port: number,
                });
            }
        }
    }
    let mut request = running.max(peak);
    if let Some(overhead) = &spec.overhead {
        request = request.plus(Amount {
            cpu_milli: overhead.get("cpu").and_then(parse_milli).unwrap_or(0),
            memory_bytes: overhead.get("memory").and_then(parse_whole).unwrap_or(0),
        });
    }
    Footprint { request, ports }
}

/// What pods may take of the node, and how many there may be.
pub fn allocatable(node: &Node) -> (Amount, i64) {
    let status = node.status.as_ref();
    let table = status.and_then(|status| status.allocatable.as_ref().or(status.capacity.as_ref()));
    let find = |name: &str| table.and_then(|table| table.get(name));
    let amount = Amount {
        cpu_milli: find("cpu").and_then(parse_milli).unwrap_or(0),
        memory_bytes: find("memory").and_then(parse_whole).unwrap_or(0),
    };
    (amount, find("pods").and_then(parse_whole).unwrap_or(110))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn milli(text: &str) -> Option<i64> {
        parse_milli(&Quantity(text.into()))
    }

    #[test]
    fn quantities_in_all_their_forms() {
        for (text, wanted) in [
            ("1", 1_000),
            ("100m", 100),
            ("0.5", 500),
            ("1.5", 1_500),
            ("2k", 2_000_000),
            ("1e3", 1_000_000),
            ("12e-1", 1_200),
            ("1u", 1),
            (".5", 500),
        ] {
            assert_eq!(milli(text), Some(wanted), "{text}");
        }
        assert_eq!(parse_whole(&Quantity("64Mi".into())), Some(64 << 20));
        assert_eq!(parse_whole(&Quantity("1.5Gi".into())), Some(3 << 29));
        for wrong in ["", "x", "1x", "m", "1 000", "--1", "99999999999999999999Ei"] {
            assert_eq!(milli(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_footprint_is_the_larger_of_start_and_run() {
        let pod: Pod = serde_json::from_value(json!({"spec": {
            "initContainers": [{"name": "i", "resources": {"requests": {"cpu": "1"}}}],
            "containers": [
                {"name": "a", "resources": {"requests": {"cpu": "300m", "memory": "1Mi"}}},
                {"name": "b", "resources": {"limits": {"cpu": "200m"}},
                 "ports": [{"containerPort": 80, "hostPort": 8080}]}]}}))
        .unwrap();
        let footprint = footprint(&pod);
        assert_eq!(footprint.request, Amount { cpu_milli: 1_000, memory_bytes: 1 << 20 });
        assert_eq!(footprint.ports.len(), 1);
    }

    #[test]
    fn any_address_conflicts_with_every_address() {
        let port = |address: &str, port| HostPort {
            protocol: "TCP".into(),
            address: address.into(),
            port,
        };
        assert!(port("0.0.0.0", 80).conflicts_with(&port("10.0.0.1", 80)));
        assert!(!port("10.0.0.2", 80).conflicts_with(&port("10.0.0.1", 80)));
        assert!(!port("0.0.0.0", 80).conflicts_with(&port("0.0.0.0", 81)));
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_fail(text in "\\PC{0,24}") {
            let _ = milli(&text);
        }

        #[test]
        fn whole_numbers_stay_what_they_are(number in 0_i64..1_000_000_000) {
            prop_assert_eq!(parse_whole(&Quantity(number.to_string())), Some(number));
        }
    }
}
