//! `.env.example` lists every setting, and no other.

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::process::Command;

    /// The variables that a verb's help names.
    fn told(verb: &str) -> BTreeSet<String> {
        let help = Command::new(env!("CARGO_BIN_EXE_wallet")).args([verb, "--help"]).output();
        let help = String::from_utf8(help.unwrap().stdout).unwrap();
        let named = help.split("[env: ").skip(1);
        named.filter_map(|it| it.split(['=', ']']).next()).map(str::to_owned).collect()
    }

    #[test]
    fn env_example_lists_every_setting_and_no_other() {
        let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../../.env.example");
        let example = std::fs::read_to_string(example).unwrap();
        let listed: BTreeSet<String> = example
            .lines()
            .filter_map(|line| line.strip_prefix("# ").unwrap_or(line).split_once('='))
            .map(|(name, _)| name.to_owned())
            .filter(|name| name.chars().all(|it| it.is_ascii_uppercase() || it == '_'))
            .collect();
        let told: BTreeSet<String> = ["dev", "serve"].into_iter().flat_map(told).collect();
        assert!(told.len() > 50, "{told:?}");
        assert_eq!(listed.difference(&told).collect::<Vec<_>>(), Vec::<&String>::new(), "unknown");
        assert_eq!(told.difference(&listed).collect::<Vec<_>>(), Vec::<&String>::new(), "missing");
    }
}
