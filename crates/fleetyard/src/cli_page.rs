//! Keeps docs/cli.md true: its reference is printed from clap's command tree, and every example above it must parse.
//! It must never print a value of an environment variable: they may be keys.

use clap::{Arg, ArgAction, Command, CommandFactory, Parser};

use crate::Arguments;

/// What is above this line is written by hand, what is below it is printed.
const MARK: &str = "<!-- Printed from the program: UPDATE_PAGES=1 cargo nextest run -p fleetyard page -->\n";

#[test]
fn the_page_of_commands_is_the_command_tree() {
    let path = page("docs/cli.md");
    let text = std::fs::read_to_string(&path).expect("the page is there");
    let (head, printed) = text.split_once(MARK).expect("the page has the mark");
    let reference = reference();
    if std::env::var_os("UPDATE_PAGES").is_some() {
        std::fs::write(&path, format!("{head}{MARK}{reference}")).expect("written");
    } else {
        assert!(
            printed == reference,
            "docs/cli.md is not what the program takes: run this test with UPDATE_PAGES=1"
        );
    }
}

#[test]
fn examples_of_the_pages_parse() {
    for name in ["docs/cli.md", "README.md"] {
        let text = std::fs::read_to_string(page(name)).expect("the page is there");
        let written = text.split(MARK).next().unwrap_or_default();
        let examples: Vec<_> = written.lines().filter(|line| line.starts_with("fleetyard ")).collect();
        assert!(!examples.is_empty(), "{name} has no examples");
        for example in examples {
            if let Err(error) = Arguments::try_parse_from(words(example)) {
                panic!("{name}: {example}\n{error}");
            }
        }
    }
}

#[test]
fn words_of_a_page_are_those_of_a_shell() {
    for (line, expected) in [
        ("a  b c", &["a", "b", "c"][..]),
        (r#"a 'b "c"' d"#, &["a", r#"b "c""#, "d"]),
        (r#"a "b 'c' # d" # e"#, &["a", "b 'c' # d"]),
        ("a --b='c d' '' | f", &["a", "--b=c d", ""]),
        ("a > b", &["a"]),
    ] {
        assert_eq!(words(line), expected, "{line}");
    }
}

fn page(name: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(name)
}

/// The words of one shell command, up to a comment, pipe or redirection; quotes are the only other thing it knows.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for c in line.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, ' ') => words.extend(word.take()),
            (None, '#' | '|' | '>') if word.is_none() => break,
            _ => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

fn reference() -> String {
    let mut root = Arguments::command();
    root.build();
    let mut page =
        String::from("## Reference\n\n`--help` is taken everywhere, `--version` by `fleetyard` itself.\n");
    let common = descendants(&root).into_iter().find(|command| command.get_arguments().any(is_common));
    page += &format!(
        "\n### Common options\n\nEvery command of `{}` takes these.\n",
        names_of_those_with_common_options(&root).join("`, `")
    );
    page += &table(common.expect("a command has them").get_arguments().filter(|arg| is_common(arg)));
    for top in visible(&root) {
        page += &format!("\n### fleetyard {}\n\n{}\n", top.get_name(), sentence(&about(top)));
        if visible(top).next().is_none() {
            page += &body(top);
        }
        for command in descendants(top) {
            let name = command.get_bin_name().unwrap_or(command.get_name());
            page += &format!("\n#### {name}\n\n{}\n{}", sentence(&about(command)), body(command));
        }
    }
    page
}

fn names_of_those_with_common_options(root: &Command) -> Vec<&str> {
    visible(root).filter(|top| top.get_arguments().any(is_common)).map(Command::get_name).collect()
}

fn is_common(arg: &Arg) -> bool {
    arg.is_global_set()
}

/// The commands below, but for clap's own `help`.
fn visible(command: &Command) -> impl Iterator<Item = &Command> {
    command.get_subcommands().filter(|command| !command.is_hide_set() && command.get_name() != "help")
}

/// All commands below that do something themselves.
fn descendants(command: &Command) -> Vec<&Command> {
    visible(command)
        .flat_map(|child| match visible(child).next() {
            None => vec![child],
            Some(_) => descendants(child),
        })
        .collect()
}

fn about(command: &Command) -> String {
    command.get_long_about().or(command.get_about()).map(ToString::to_string).unwrap_or_default()
}

fn body(command: &Command) -> String {
    let usage = command.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage: ");
    format!("\n```\n{usage}\n```\n{}", table(command.get_arguments().filter(|arg| !is_common(arg))))
}

/// A table of what clap does not add by itself; nothing if that is nothing.
fn table<'a>(arguments: impl Iterator<Item = &'a Arg>) -> String {
    let rows: String = arguments
        .filter(|arg| !arg.is_hide_set() && !matches!(arg.get_action(), ArgAction::Help | ArgAction::Version))
        .map(|arg| format!("| `{arg}` | {} |\n", meaning(arg).replace('|', "\\|")))
        .collect();
    if rows.is_empty() { rows } else { format!("\n| argument | meaning |\n|---|---|\n{rows}") }
}

fn meaning(arg: &Arg) -> String {
    let help = arg.get_long_help().or(arg.get_help()).map(ToString::to_string).unwrap_or_default();
    let mut parts = vec![sentence(&help)];
    if arg.get_action().takes_values() {
        let values = arg.get_possible_values();
        let values = values.iter().filter(|value| !value.is_hide_set());
        let values: Vec<_> = values.map(|value| format!("`{}`", value.get_name())).collect();
        if !values.is_empty() && !arg.is_hide_possible_values_set() {
            parts.push(format!("One of {}.", values.join(", ")));
        }
        let defaults: Vec<_> = arg.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
        if !defaults.is_empty() && !arg.is_hide_default_value_set() {
            parts.push(format!("Default `{}`.", defaults.join(" ")));
        }
        if let Some(delimiter) = arg.get_value_delimiter() {
            parts.push(format!("Several with `{delimiter}` between."));
        } else if matches!(arg.get_action(), ArgAction::Append) && !arg.is_positional() {
            parts.push("May be given more than once.".into());
        }
    }
    if let Some(variable) = arg.get_env().filter(|_| !arg.is_hide_env_set()) {
        parts.push(format!("Environment: `{}`.", variable.to_string_lossy()));
    }
    if arg.is_required_set() && !arg.is_positional() {
        parts.push("Required.".into());
    }
    parts.join(" ")
}

/// One line that ends as sentences do; clap takes the full stop away.
fn sentence(text: &str) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if text.ends_with('.') { text } else { format!("{text}.") }
}
