//! Address templates (`{{ GetPrivateIP }}`): go-sockaddr's forms that people use, evaluated on this host's interfaces.

use std::cmp::Ordering;

use ipnet::IpNet;
use regex::Regex;

use super::fault::nearest;
use super::interface::Interface;

/// Longest text that is evaluated; the longest in use have some 200 letters.
const TEXT_BYTES_MAX: usize = 4096;

const SOURCES: [&str; 10] = [
    "GetPrivateIP",
    "GetPrivateIPs",
    "GetPublicIP",
    "GetPublicIPs",
    "GetInterfaceIP",
    "GetInterfaceIPs",
    "GetAllInterfaces",
    "GetDefaultInterfaces",
    "GetPrivateInterfaces",
    "GetPublicInterfaces",
];
const STEPS: [&str; 8] = ["include", "exclude", "sort", "unique", "limit", "offset", "attr", "join"];

/// The text with what its templates give in their place; others are returned as they are. The error says what would be right.
pub(super) fn expand(text: &str, interfaces: &[Interface]) -> Result<String, String> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(format!("is longer than {TEXT_BYTES_MAX} bytes"));
    }
    let mut rest = text;
    let mut out = String::new();
    while let Some((before, after)) = rest.split_once("{{") {
        let (inside, behind) = after.split_once("}}").ok_or("has {{ without }}")?;
        out.push_str(before);
        out.push_str(&evaluate(inside.trim_start_matches('-').trim_end_matches('-'), interfaces)?);
        rest = behind;
    }
    out.push_str(rest);
    Ok(out.trim().to_owned())
}

/// What a step gives to the next.
enum Value {
    List(Vec<Interface>),
    Text(String),
}

fn evaluate(inside: &str, interfaces: &[Interface]) -> Result<String, String> {
    let mut steps = steps(inside)?.into_iter();
    let first = steps.next().ok_or("has an empty template: write {{ GetPrivateIP }} or the like")?;
    let value = steps.try_fold(source(&first, interfaces)?, |value, step| match value {
        Value::List(list) => apply(&step, list),
        Value::Text(_) => Err(format!("{} cannot follow a text: it takes a list of interfaces", step.name)),
    })?;
    match value {
        Value::Text(text) => Ok(text),
        Value::List(_) => {
            Err("ends with a list of interfaces: end it with attr \"address\", or join \"address\" \" \"".to_owned())
        }
    }
}

/// A function with its arguments.
#[derive(Debug)]
struct Step {
    name: String,
    arguments: Vec<String>,
}

/// Reads `name "argument" 1 | name …`.
fn steps(inside: &str) -> Result<Vec<Step>, String> {
    let mut steps = vec![Vec::new()];
    let mut rest = inside.trim();
    while let Some(letter) = rest.chars().next() {
        let words = steps.last_mut().expect("there is one always");
        rest = match letter {
            '|' => {
                steps.push(Vec::new());
                &rest[1..]
            }
            '"' | '`' => {
                let (word, behind) = quoted(rest, letter)?;
                words.push(word);
                behind
            }
            '(' | ')' | '$' | '.' => {
                return Err(format!("has {letter:?} in a template: only functions joined by | are understood"));
            }
            _ => {
                let end = rest.find(|c: char| c.is_whitespace() || "|\"`()".contains(c)).unwrap_or(rest.len());
                words.push(rest[..end].to_owned());
                &rest[end..]
            }
        }
        .trim_start();
    }
    let step = |words: Vec<String>| {
        let mut words = words.into_iter();
        let name = words.next().ok_or("has a template without a function: write {{ GetPrivateIP }} or the like")?;
        Ok(Step { name, arguments: words.collect() })
    };
    steps.into_iter().map(step).collect()
}

/// A quoted text at the beginning, and what follows.
fn quoted(text: &str, quote: char) -> Result<(String, &str), String> {
    let mut word = String::new();
    let mut letters = text.char_indices().skip(1);
    while let Some((at, letter)) = letters.next() {
        match letter {
            letter if letter == quote => return Ok((word, &text[at + 1..])),
            '\\' if quote == '"' => word.extend(letters.next().map(|(_, escaped)| match escaped {
                'n' => '\n',
                't' => '\t',
                other => other,
            })),
            letter => word.push(letter),
        }
    }
    Err("has a template with an open quote".to_owned())
}

fn source(step: &Step, interfaces: &[Interface]) -> Result<Value, String> {
    let all = || interfaces.to_vec();
    let flagged = |list: Vec<Interface>, flags: &[&str]| -> Vec<Interface> {
        list.into_iter().filter(|one| flags.iter().all(|flag| one.has(flag) == Some(true))).collect()
    };
    let special = |is: bool| {
        let mut list = flagged(all(), &["forwardable", "up"]);
        list.retain(|one| one.is_of_rfc("6890") == Some(is));
        order(&mut list, "type,size").map(|()| list)
    };
    let named = || -> Result<Vec<Interface>, String> {
        let [name] = arguments(step)?;
        let pattern = pattern(name)?;
        let mut list = flagged(all(), &["forwardable"]);
        list.retain(|one| pattern.is_match(&one.name));
        order(&mut list, "type,size").map(|()| list)
    };
    let first = |list: Vec<Interface>| Value::Text(list.first().map(|one| one.ip().to_string()).unwrap_or_default());
    let each = |list: Vec<Interface>| Value::Text(joined(&list, |one| one.ip().to_string(), " "));
    if !step.name.starts_with("GetInterface") && SOURCES.contains(&step.name.as_str()) {
        let [] = arguments(step)?;
    }
    Ok(match step.name.as_str() {
        "GetPrivateIP" => first(special(true)?),
        "GetPrivateIPs" => each(special(true)?),
        "GetPublicIP" => first(special(false)?),
        "GetPublicIPs" => each(special(false)?),
        "GetInterfaceIP" => first(named()?),
        "GetInterfaceIPs" => each(named()?),
        "GetAllInterfaces" => Value::List(all()),
        "GetDefaultInterfaces" => Value::List(all().into_iter().filter(|one| one.is_default).collect()),
        "GetPrivateInterfaces" => Value::List(special(true)?),
        "GetPublicInterfaces" => Value::List(special(false)?),
        other => return Err(unknown(other, &SOURCES)),
    })
}

fn apply(step: &Step, mut list: Vec<Interface>) -> Result<Value, String> {
    match step.name.as_str() {
        keep @ ("include" | "exclude") => {
            let [by, what] = arguments(step)?;
            selects(by, what, &some_interface())?; // faults are told on a host without interfaces too
            let found = list.iter().map(|one| selects(by, what, one)).collect::<Result<Vec<_>, _>>()?;
            let mut ranked: Vec<(Option<usize>, Interface)> = found.into_iter().zip(list).collect();
            ranked.retain(|(rank, _)| rank.is_some() == (keep == "include"));
            // Of several networks the first one's come first.
            ranked.sort_by_key(|(rank, _)| *rank);
            list = ranked.into_iter().map(|(_, one)| one).collect();
        }
        "sort" => {
            let [by] = arguments(step)?;
            order(&mut list, by)?;
        }
        "unique" => {
            let [by] = arguments(step)?;
            let key = attribute(by)?;
            let mut seen = std::collections::BTreeSet::new();
            list.retain(|one| seen.insert(key(one)));
        }
        "limit" => {
            let [most] = arguments(step)?;
            list.truncate(number(&step.name, most)?);
        }
        "offset" => {
            let [first] = arguments(step)?;
            let first = number(&step.name, first)?.min(list.len());
            list.drain(..first);
        }
        "attr" => {
            let [by] = arguments(step)?;
            let key = attribute(by)?;
            return Ok(Value::Text(list.first().map(key).unwrap_or_default()));
        }
        "join" => {
            let [by, between] = arguments(step)?;
            return Ok(Value::Text(joined(&list, attribute(by)?, between)));
        }
        other => return Err(unknown(other, &STEPS)),
    }
    Ok(Value::List(list))
}

fn arguments<const N: usize>(step: &Step) -> Result<[&str; N], String> {
    let given: Vec<&str> = step.arguments.iter().map(String::as_str).collect();
    given.try_into().map_err(|_| format!("{} takes {N} arguments", step.name))
}

fn unknown(name: &str, known: &[&'static str]) -> String {
    match nearest(name, known.iter().copied()) {
        Some(near) => format!("has {name} in a template, which is no function there; did you mean {near}?"),
        None => format!("has {name} in a template, which is no function there; known are {}", known.join(", ")),
    }
}

fn number(name: &str, text: &str) -> Result<usize, String> {
    text.parse().map_err(|_| format!("{name} takes a number"))
}

fn pattern(text: &str) -> Result<Regex, String> {
    regex::RegexBuilder::new(text).size_limit(1 << 20).build().map_err(|_| format!("{text:?} is no regular expression"))
}

/// Some interface.
fn some_interface() -> Interface {
    let net = IpNet::from(std::net::IpAddr::from([127, 0, 0, 1]));
    Interface { name: "lo".to_owned(), net, flags: 0, is_default: false }
}

/// Whether a selector of `include` and `exclude` fits, and by which of its alternatives: networks, RFCs and types.
fn selects(by: &str, what: &str, one: &Interface) -> Result<Option<usize>, String> {
    let yes = |fits: bool| Ok(fits.then_some(0));
    let first = |fits: &dyn Fn(&str) -> Result<bool, String>| {
        let fits: Vec<bool> = what.split('|').map(str::trim).map(fits).collect::<Result<_, _>>()?;
        Ok(fits.into_iter().position(|fits| fits))
    };
    match by {
        "name" => yes(pattern(what)?.is_match(&one.name)),
        "address" => yes(pattern(what)?.is_match(&one.ip().to_string())),
        "network" | "networks" => first(&|net| {
            let net: IpNet = net.parse().map_err(|_| format!("{net:?} must be a network such as 10.0.0.0/8"))?;
            Ok(net.contains(&one.ip()))
        }),
        "rfc" | "rfcs" => first(&|rfc| one.is_of_rfc(rfc).ok_or_else(|| format!("RFC {rfc} names no known networks"))),
        "size" => {
            let size: u8 = what.trim_start_matches('/').parse().map_err(|_| format!("{what:?} must be a length such as /24"))?;
            yes(one.net.prefix_len() == size)
        }
        "type" => first(&|kind| match kind.to_ascii_lowercase().as_str() {
            "ip" => Ok(true),
            "ipv4" => Ok(one.ip().is_ipv4()),
            "ipv6" => Ok(one.ip().is_ipv6()),
            "unix" => Ok(false),
            _ => Err(format!("{kind:?} must be IP, IPv4 or IPv6")),
        }),
        "flag" | "flags" => {
            let (mut of_interface, mut of_address) = (None, false);
            for flag in what.split('|').map(|flag| flag.trim().to_ascii_lowercase()) {
                let has = one.has(&flag).ok_or_else(|| format!("{flag:?} is no flag of an interface"))?;
                if ["up", "down", "broadcast", "loopback", "point-to-point"].contains(&flag.as_str()) {
                    of_interface = Some(of_interface.unwrap_or(true) && has);
                } else {
                    of_address |= has;
                }
            }
            // As go-sockaddr: all that is said of the interface, or anything that is said of the address.
            yes(of_interface == Some(true) || of_address)
        }
        other => {
            Err(format!("{other:?} must be one of address, flags, name, network, rfc, size, type: nothing else is selected by"))
        }
    }
}

/// What `attr`, `join` and `unique` name.
fn attribute(name: &str) -> Result<fn(&Interface) -> String, String> {
    match name {
        "address" | "host" => Ok(|one| one.ip().to_string()),
        "name" => Ok(|one| one.name.clone()),
        "network" => Ok(|one| one.net.network().to_string()),
        "netmask" => Ok(|one| one.net.netmask().to_string()),
        "mask_bits" => Ok(|one| one.net.prefix_len().to_string()),
        "string" => Ok(|one| one.net.to_string()),
        "broadcast" => Ok(|one| one.net.broadcast().to_string()),
        "type" => Ok(|one| if one.ip().is_ipv4() { "IPv4" } else { "IPv6" }.to_owned()),
        other => {
            let known = ["address", "name", "network", "netmask", "mask_bits", "string", "broadcast", "type"];
            Err(format!("{other:?} must be one of {}", known.join(", ")))
        }
    }
}

fn joined(list: &[Interface], key: impl Fn(&Interface) -> String, between: &str) -> String {
    list.iter().map(key).collect::<Vec<_>>().join(between)
}

/// Sorts by `size,-address`: a minus turns it round; what is equal stays as it was.
fn order(list: &mut [Interface], by: &str) -> Result<(), String> {
    let mut keys = Vec::new();
    for word in by.split(',').map(str::trim) {
        let (name, turned) = match (word.strip_prefix('+'), word.strip_prefix('-')) {
            (Some(name), _) => (name, false),
            (_, Some(name)) => (name, true),
            _ => (word, false),
        };
        let compare: fn(&Interface, &Interface) -> Ordering = match name {
            // Each family by itself, IPv4 first, whichever way round.
            "address" if turned => |a, b| a.ip().is_ipv6().cmp(&b.ip().is_ipv6()).reverse().then(a.ip().cmp(&b.ip())),
            "address" => |a, b| a.ip().cmp(&b.ip()),
            "default" => |a, b| b.is_default.cmp(&a.is_default),
            "name" => |a, b| a.name.cmp(&b.name),
            "private" => |a, b| b.is_of_rfc("6890").cmp(&a.is_of_rfc("6890")),
            // The larger network first.
            "size" => |a, b| a.net.prefix_len().cmp(&b.net.prefix_len()),
            "type" => |a, b| a.ip().is_ipv6().cmp(&b.ip().is_ipv6()),
            other => {
                return Err(format!(
                    "{other:?} must be one of address, default, name, private, size, type, with + or - before it"
                ));
            }
        };
        keys.push((compare, turned));
    }
    list.sort_by(|a, b| {
        let orders = keys.iter().map(|(compare, turned)| if *turned { compare(b, a) } else { compare(a, b) });
        orders.fold(Ordering::Equal, Ordering::then)
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> Vec<Interface> {
        let mut lo = Interface::new("lo", "127.0.0.1/8");
        lo.flags |= libc::IFF_LOOPBACK as u32;
        let mut down = Interface::new("eth9", "10.9.9.9/24");
        down.flags = 0;
        let mut first = Interface::new("eth0", "10.1.2.3/24");
        first.is_default = true;
        vec![
            lo,
            Interface::new("lo", "::1/128"),
            Interface::new("docker0", "172.17.0.1/16"),
            first,
            Interface::new("eth0", "fe80::1/64"),
            Interface::new("eth0", "2a00::5/64"),
            Interface::new("eth1", "8.8.8.8/24"),
            down,
        ]
    }

    fn given(text: &str) -> Result<String, String> {
        expand(text, &host())
    }

    #[test]
    fn the_forms_people_use_give_their_addresses() {
        for (text, expected) in [
            ("10.0.0.1", "10.0.0.1"),
            ("{{ GetPrivateIP }}", "172.17.0.1"), // the larger network first
            ("{{GetPrivateIPs}}", "172.17.0.1 10.1.2.3"),
            ("{{ GetPublicIP }}", "8.8.8.8"),
            ("{{ GetInterfaceIP \"eth0\" }}", "10.1.2.3"),
            ("{{ GetInterfaceIP `^eth1$` }}", "8.8.8.8"),
            ("{{ GetInterfaceIPs \"eth0\" }}", "10.1.2.3 2a00::5"),
            ("{{ GetInterfaceIP \"wlan0\" }}", ""),
            ("127.0.0.1 {{ GetInterfaceIP \"eth0\" }}", "127.0.0.1 10.1.2.3"),
            ("{{ GetPrivateInterfaces | include \"network\" \"10.0.0.0/8\" | attr \"address\" }}", "10.1.2.3"),
            (
                "{{ GetAllInterfaces | include \"name\" \"^eth\" | include \"flags\" \"forwardable|up\" | attr \"address\" }}",
                "10.1.2.3",
            ),
            // Facts of a real Consul: one of the two is enough, the first network comes first, and each family is sorted by itself.
            ("{{ GetAllInterfaces | include \"flags\" \"forwardable|up\" | attr \"address\" }}", "127.0.0.1"),
            ("{{ GetPrivateInterfaces | include \"network\" \"10.0.0.0/8|172.16.0.0/12\" | attr \"address\" }}", "10.1.2.3"),
            ("{{ GetAllInterfaces | exclude \"rfc\" \"1918\" | sort \"-address\" | attr \"address\" }}", "127.0.0.1"),
            (
                "{{ GetAllInterfaces | exclude \"name\" \"lo|docker\" | exclude \"type\" \"IPv6\" | join \"address\" \" \" }}",
                "10.1.2.3 8.8.8.8 10.9.9.9",
            ),
            ("{{ GetAllInterfaces | include \"type\" \"ipv4\" | sort \"-address\" | limit 1 | attr \"address\" }}", "172.17.0.1"),
            ("{{ GetAllInterfaces | sort \"-size,name\" | offset 1 | limit 1 | attr \"string\" }}", "fe80::1/64"),
            (
                "{{ GetAllInterfaces | include \"rfc\" \"1918|6598\" | unique \"name\" | join \"name\" \",\" }}",
                "docker0,eth0,eth9",
            ),
            ("{{- GetDefaultInterfaces | include \"size\" \"/24\" | attr \"address\" -}}", "10.1.2.3"),
            ("{{ GetPublicInterfaces | include \"address\" \"^8\" | attr \"netmask\" }}", "255.255.255.0"),
            ("{{ GetDefaultInterfaces | include \"name\" \"none\" | attr \"address\" }}", ""),
        ] {
            assert_eq!(given(text), Ok(expected.to_owned()), "{text}");
        }
    }

    #[test]
    fn what_is_not_understood_is_said() {
        for (text, expected) in [
            ("{{ GetPrivateIp }}", "did you mean GetPrivateIP?"),
            ("{{ GetPrivateIP", "without }}"),
            ("{{ }}", "GetPrivateIP"),
            ("{{ GetAllInterfaces }}", "end it with attr"),
            ("{{ GetAllInterfaces | }}", "without a function"),
            ("{{ GetPrivateIP | attr \"address\" }}", "cannot follow a text"),
            ("{{ GetAllInterfaces | include \"name\" }}", "takes 2 arguments"),
            ("{{ GetAllInterfaces | include \"name\" \"(\" | attr \"name\" }}", "regular expression"),
            ("{{ GetAllInterfaces | include \"net\" \"x\" | attr \"name\" }}", "must be one of"),
            ("{{ GetAllInterfaces | include \"network\" \"x\" | attr \"name\" }}", "must be a network"),
            ("{{ GetAllInterfaces | include \"flags\" \"up|x\" | attr \"name\" }}", "no flag"),
            ("{{ GetAllInterfaces | sort \"x\" | attr \"name\" }}", "must be one of"),
            ("{{ GetAllInterfaces | limit x | attr \"name\" }}", "takes a number"),
            ("{{ GetAllInterfaces | attr \"mac\" }}", "must be one of"),
            ("{{ GetInterfaceIP \"eth0 }}", "open quote"),
            ("{{ with $x := GetAllInterfaces }}", "only functions joined by |"),
            ("{{ GetPrivateIP \"x\" }}", "takes 0 arguments"),
        ] {
            let error = given(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
        assert!(given(&"x".repeat(5000)).is_err());
        assert!(expand("{{ GetAllInterfaces | include \"rfc\" \"1\" | attr \"name\" }}", &[]).is_err(), "without interfaces too");
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in "(\\{\\{)?( ?(GetAllInterfaces|include|attr|sort|limit|\\||\"[a-z|é\\\\]*\"?|`|[0-9ü]*)){0,8}(\\}\\})?") {
            let _ = given(&text);
        }
    }
}
