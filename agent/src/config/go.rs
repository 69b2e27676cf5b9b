//! Go's way of writing flags, brought into the way clap reads them.
//!
//! Consul's users write `-http-addr=X`, `-detailed=false` and `kv put key -5`. Go's rules: one dash or two; a value
//! after `=` or as the next argument, whatever that looks like; booleans bare or with `=`; the last of a repeated flag
//! wins; the first argument that is no flag, or `--`, ends the flags.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use clap::{Arg, ArgAction, Command};

/// Rewrites a whole command line (the program's name first) for `root`. What it does not know it leaves for clap to refuse.
pub(crate) fn go_style(root: &Command, argv: impl IntoIterator<Item = OsString>) -> Result<Vec<OsString>, String> {
    let mut argv = argv.into_iter();
    let mut out: Vec<OsString> = argv.next().into_iter().collect();
    let Some(leaf) = descend(root, &mut argv, &mut out) else {
        out.extend(argv);
        return Ok(out);
    };
    if takes_everything(leaf) {
        out.push("--".into());
        out.extend(argv);
        return Ok(out);
    }
    let mut switches: BTreeMap<String, bool> = BTreeMap::new();
    while let Some(word) = argv.next() {
        let Some((name, value)) = split(&word) else {
            // The first argument that is no flag: it and all that follow are meant as they stand.
            out.extend(switches.iter().filter(|(_, on)| **on).map(|(name, _)| long(name, None)));
            out.push("--".into());
            if word != "--" {
                out.push(word);
            }
            out.extend(argv);
            return Ok(out);
        };
        match flag(leaf, &name) {
            Some(arg) if is_switch(arg) => {
                let on = match &value {
                    None => true,
                    Some(text) => truth(text).ok_or_else(|| {
                        format!("invalid boolean value {:?} for -{name}: write true or false", text.to_string_lossy())
                    })?,
                };
                switches.insert(name, on);
            }
            // A switch that keeps its value: only what is joined to it by `=` is one.
            Some(arg) if arg.is_require_equals_set() => out.push(long(&name, value.as_deref())),
            Some(_) => match value.or_else(|| argv.next()) {
                Some(value) => out.push(long(&name, Some(&value))),
                None => out.push(long(&name, None)),
            },
            None => {
                out.push(if word == "-h" { word } else { long(&name, value.as_deref()) });
                out.extend(argv);
                return Ok(out);
            }
        }
    }
    out.extend(switches.iter().filter(|(_, on)| **on).map(|(name, _)| long(name, None)));
    Ok(out)
}

/// Follows the names of subcommands to the one that takes flags; `None` where the rest is clap's to judge.
fn descend<'c>(root: &'c Command, argv: &mut impl Iterator<Item = OsString>, out: &mut Vec<OsString>) -> Option<&'c Command> {
    let mut here = root;
    while here.has_subcommands() {
        let mut word = argv.next()?;
        if let Some((name, value)) = split(&word) {
            let at_root = std::ptr::eq(here, root);
            if at_root && value.is_none() && (name == "version" || name == "v") {
                word = "version".into();
            } else {
                out.push(if word == "-h" { word } else { long(&name, value.as_deref()) });
                return None;
            }
        }
        let next = word.to_str().and_then(|word| here.find_subcommand(word));
        out.push(word);
        here = next?;
    }
    Some(here)
}

/// `-name` and `--name=value` in parts; `None` for what is no flag: words, `-`, `--`, numbers such as `-5`.
fn split(word: &OsStr) -> Option<(String, Option<OsString>)> {
    let bytes = word.as_bytes();
    let bare = bytes.strip_prefix(b"--").or_else(|| bytes.strip_prefix(b"-"))?;
    let first = *bare.first()?;
    if !first.is_ascii_alphabetic() {
        return None;
    }
    let mut parts = bare.splitn(2, |&byte| byte == b'=');
    let name = parts.next().and_then(|name| str::from_utf8(name).ok())?.to_owned();
    let value = parts.next().map(|value| OsStr::from_bytes(value).to_owned());
    Some((name, value))
}

fn flag<'c>(command: &'c Command, name: &str) -> Option<&'c Arg> {
    command
        .get_arguments()
        .find(|arg| arg.get_long() == Some(name) || arg.get_all_aliases().is_some_and(|all| all.contains(&name)))
}

fn is_switch(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::SetTrue)
}

fn takes_everything(command: &Command) -> bool {
    command.get_positionals().any(Arg::is_trailing_var_arg_set)
}

fn long(name: &str, value: Option<&OsStr>) -> OsString {
    let mut out = format!("--{name}").into_bytes();
    if let Some(value) = value {
        out.push(b'=');
        out.extend_from_slice(value.as_bytes());
    }
    OsString::from_vec(out)
}

fn truth(text: &OsStr) -> Option<bool> {
    match text.to_str()? {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape() -> Command {
        let value = |name: &'static str| Arg::new(name).long(name);
        let switch = |name: &'static str| Arg::new(name).long(name).action(ArgAction::SetTrue);
        Command::new("muster")
            .subcommand(Command::new("version").arg(value("format")))
            .subcommand(
                Command::new("agent").arg(Arg::new("args").num_args(0..).trailing_var_arg(true).allow_hyphen_values(true)),
            )
            .subcommand(
                Command::new("kv").subcommand(
                    Command::new("put")
                        .arg(value("http-addr"))
                        .arg(value("flags"))
                        .arg(Arg::new("wait").long("wait").num_args(0..=1).require_equals(true))
                        .arg(switch("cas"))
                        .arg(switch("base64"))
                        .arg(Arg::new("key"))
                        .arg(Arg::new("value")),
                ),
            )
    }

    fn rewritten(line: &str) -> String {
        let argv = line.split(' ').map(OsString::from);
        let out = go_style(&shape(), argv).expect("these lines have no bad booleans");
        out.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn one_dash_becomes_two_and_a_value_as_the_next_word_joins_its_flag() {
        assert_eq!(rewritten("m kv put -http-addr=a:1 -flags 7 k v"), "m kv put --http-addr=a:1 --flags=7 -- k v");
        assert_eq!(rewritten("m kv put --flags=7 k"), "m kv put --flags=7 -- k");
    }

    #[test]
    fn a_value_that_looks_like_a_flag_stays_its_flags_value() {
        assert_eq!(rewritten("m kv put -http-addr -cas k"), "m kv put --http-addr=-cas -- k");
        assert_eq!(rewritten("m kv put -http-addr= k"), "m kv put --http-addr= -- k");
        assert_eq!(rewritten("m kv put -http-addr=a=b k"), "m kv put --http-addr=a=b -- k");
    }

    #[test]
    fn a_switch_that_keeps_its_value_takes_no_word_for_it() {
        assert_eq!(rewritten("m kv put -wait k"), "m kv put --wait -- k");
        assert_eq!(rewritten("m kv put -wait=false -flags -1"), "m kv put --wait=false --flags=-1");
    }

    #[test]
    fn flags_end_at_the_first_word_that_is_none() {
        assert_eq!(rewritten("m kv put k -5"), "m kv put -- k -5");
        assert_eq!(rewritten("m kv put k -cas"), "m kv put -- k -cas");
        assert_eq!(rewritten("m kv put k -"), "m kv put -- k -");
        assert_eq!(rewritten("m kv put -5"), "m kv put -- -5");
        assert_eq!(rewritten("m kv put - -cas"), "m kv put -- - -cas");
        assert_eq!(rewritten("m kv put -- -cas -x"), "m kv put -- -cas -x");
        assert_eq!(rewritten("m kv put k -- v"), "m kv put -- k -- v");
    }

    #[test]
    fn a_boolean_is_bare_or_has_a_value_and_the_last_one_wins() {
        assert_eq!(rewritten("m kv put -cas k"), "m kv put --cas -- k");
        assert_eq!(rewritten("m kv put -cas=false k"), "m kv put -- k");
        assert_eq!(rewritten("m kv put -cas=T -base64=0 k"), "m kv put --cas -- k");
        assert_eq!(rewritten("m kv put -cas -cas=false"), "m kv put");
        let argv = ["m", "kv", "put", "-cas=maybe"].map(OsString::from);
        assert!(go_style(&shape(), argv).unwrap_err().contains("-cas"));
    }

    #[test]
    fn help_version_and_the_unknown_reach_clap() {
        assert_eq!(rewritten("m -v"), "m version");
        assert_eq!(rewritten("m --version"), "m version");
        assert_eq!(rewritten("m -version -format=json"), "m version --format=json");
        assert_eq!(rewritten("m -h"), "m -h");
        assert_eq!(rewritten("m kv -help"), "m kv --help");
        assert_eq!(rewritten("m kv put -h"), "m kv put -h");
        assert_eq!(rewritten("m kv put -bogus=1 -cas"), "m kv put --bogus=1 -cas");
        assert_eq!(rewritten("m bogus -x"), "m bogus -x");
        assert_eq!(rewritten("m kv put -flags"), "m kv put --flags");
        assert_eq!(rewritten("m"), "m");
    }

    #[test]
    fn the_agents_flags_are_left_as_they_stand() {
        assert_eq!(rewritten("m agent -dev -config-file=x --help -- y"), "m agent -- -dev -config-file=x --help -- y");
        assert_eq!(rewritten("m agent"), "m agent --");
    }

    #[test]
    fn bytes_that_are_no_text_survive() {
        let value = OsString::from_vec(vec![b'-', 0xff, 0xfe]);
        let argv = ["m", "kv", "put", "k"].map(OsString::from).into_iter().chain([value.clone()]);
        assert_eq!(go_style(&shape(), argv).expect("no booleans").last(), Some(&value));
    }
}
