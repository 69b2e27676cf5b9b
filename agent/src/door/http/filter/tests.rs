//! What filters let through, and in which words they are refused.

use super::*;

fn service(id: &str, port: i64, tags: &[&str], meta: &[(&str, &str)]) -> Row<Service> {
    let mut row = SPECIMEN.1.clone();
    row.value.id = ServiceId::new(id).expect("a name");
    row.value.port = port;
    row.value.tags = tags.iter().map(SmolStr::new).collect();
    row.value.meta = meta.iter().map(|(key, value)| (SmolStr::new(key), SmolStr::new(value))).collect();
    row
}

fn admitted(filter: &str) -> Result<Vec<i64>, String> {
    let rows = [
        service("web-1", 1, &["red", "big"], &[("env", "prod"), ("a-b", "x")]),
        service("web-2", 2, &["blue"], &[("env", "dev"), ("a-b", "x")]),
        service("web-3", 3, &[], &[]),
    ];
    let filter = Filter::read(Some(&SmolStr::new(filter)), Rows::Services).map_err(|error| error.to_string())?;
    let admits = |row: &&Row<Service>| filter.as_ref().is_none_or(|filter| filter.admits(*row));
    Ok(rows.iter().filter(admits).map(|row| row.port).collect())
}

#[test]
fn operators_on_every_kind_of_field() {
    for (filter, ports) in [
        ("Port == 1", vec![1]),
        (" Port==\"2\" ", vec![2]),
        ("Port != 1", vec![2, 3]),
        ("ID == `web-3`", vec![3]),
        ("ID matches \"[13]$\"", vec![1, 3]),
        ("ID not matches \"[13]$\"", vec![2]),
        ("\"b-1\" in ID", vec![1]),
        ("ID not contains \"b-1\"", vec![2, 3]),
        ("EnableTagOverride == false", vec![1, 2, 3]),
        ("\"red\" in Tags", vec![1]),
        ("\"re\" in Tags", vec![]),
        ("Tags contains blue", vec![2]),
        ("Tags is empty", vec![3]),
        ("Tags is not empty", vec![1, 2]),
        ("Meta.env == prod", vec![1]),
        ("Meta.env != \"prod\"", vec![2, 3]),
        ("Meta[\"a-b\"] == \"x\"", vec![1, 2]),
        ("\"env\" not in Meta", vec![3]),
        ("Meta is empty", vec![3]),
        ("Meta.env matches \"pro\"", vec![1, 3]),
        ("Weights.Passing == 1", vec![1, 2, 3]),
        ("", vec![1, 2, 3]),
    ] {
        assert_eq!(admitted(filter), Ok(ports), "{filter}");
    }
}

#[test]
fn not_binds_tightest_then_and_then_or() {
    for (filter, ports) in [
        ("not Port == 1 and Port == 2", vec![2]),
        ("not (Port == 1 or Port == 2)", vec![3]),
        ("Port == 1 or Port == 2 and Meta.env == \"prod\"", vec![1]),
        ("(Port == 1 or Port == 2) and Meta.env == \"dev\"", vec![2]),
        ("not not Port == 1", vec![1]),
        ("((Port == 1))", vec![1]),
        ("Port == 1\nor Port == 2", vec![1, 2]),
    ] {
        assert_eq!(admitted(filter), Ok(ports), "{filter}");
    }
}

#[test]
fn refusals_name_the_culprit() {
    for (filter, text) in [
        ("Nope == 1", "Selector \"Nope\" is not valid"),
        ("port == 1", "Selector \"port\" is not valid"),
        ("Service.x == 1", "Selector \"Service.x\" is not valid"),
        ("Meta.a.b == 1", "Selector \"Meta.a.b\" is not valid"),
        ("CreateIndex == 1", "Selector \"CreateIndex\" is not valid"),
        ("Port matches \"8\"", "Invalid match operator \"Matches\" for selector \"Port\""),
        ("\"x\" in Port", "Invalid match operator \"In\" for selector \"Port\""),
        ("Address is empty", "Invalid match operator \"Is Empty\" for selector \"Address\""),
        ("Tags == \"red\"", "Invalid match operator \"Equal\" for selector \"Tags\""),
        ("Meta == \"x\"", "Invalid match operator \"Equal\" for selector \"Meta\""),
    ] {
        assert_eq!(admitted(filter), Err(text.to_owned()), "{filter}");
    }
    for filter in [
        "Port",
        "Port ==",
        "== 1",
        "Port = 1",
        "(Port == 1",
        "Port == 1)",
        "Port == abc",
        "ID == web-1",
        "ID in \"a\"",
        "Port > 1",
        "ID == \"open",
        "any Tags as t { t == \"x\" }",
        "Port == 1 AND Port == 2",
        "Port == 1 && Port == 2",
        "ID matches \"(\"",
        "EnableTagOverride == maybe",
        "ID == \"\\q\"",
        "Meta[\"a == 1",
        "not",
        "\u{e7} == 1",
    ] {
        assert!(admitted(filter).is_err(), "{filter}");
    }
}

#[test]
fn depth_and_length_are_bounded() {
    let deep = format!("{}Port == 1{}", "(".repeat(4000), ")".repeat(4000));
    assert!(matches!(Filter::read(Some(&deep.into()), Rows::Services), Err(FilterError::TooLarge(_))));
    let deep = format!("{}Port == 1", "not ".repeat(1900));
    assert!(matches!(Filter::read(Some(&deep.into()), Rows::Services), Err(FilterError::TooLarge(_))));
    let long = "(".repeat(20_000);
    assert!(matches!(Filter::read(Some(&long.into()), Rows::Services), Err(FilterError::TooLarge(_))));
    let wide = vec!["Port == 1"; 600].join(" or ");
    assert_eq!(admitted(&wide), Ok(vec![1]));
}

#[test]
fn one_element_of_a_list_is_enough() {
    let check = |id: &str, status: &str| {
        let mut row = (*SPECIMEN.2).clone();
        row.value.id = CheckId::new(id).expect("a name");
        row.value.status = Status::from_text(status);
        Arc::new(row)
    };
    let checks = [check("a", "passing"), check("b", "critical")];
    let row = HealthSpecimen { node: NodeView { node: &SPECIMEN.0, datacenter: "dc1" }, service: &SPECIMEN.1, checks: &checks };
    for (filter, passes) in [
        ("Checks.Status == \"critical\"", true),
        ("Checks.Status != \"critical\"", true),
        ("not Checks.Status == \"critical\"", false),
        ("Checks.Status == \"none\"", false),
        ("Checks is empty", false),
        ("Checks is not empty", true),
        ("Node.Datacenter == \"dc1\"", true),
        ("Service.TaggedAddresses.wan.Port == 1", false),
    ] {
        let filter = Filter::read(Some(&filter.into()), Rows::Health).expect("a filter").expect("not empty");
        assert_eq!(filter.admits(&row), passes, "{filter:?}");
    }
}
