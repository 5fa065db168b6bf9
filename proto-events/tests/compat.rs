//! Compares the wire with what was promised: `wire.golden.txt` has a line for each field and each
//! enum value there ever was. A line that is missing from the wire is a broken promise to whatever
//! still sends or keeps such messages, in streams and databases too.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use prost::Message;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorSet};

/// Set to add what is new.
const ADD: &str = "ADD_TO_WIRE";

#[test]
fn nothing_on_the_wire_is_renumbered_retyped_or_removed() {
    let wire = lines(&FileDescriptorSet::decode(proto_events::DESCRIPTORS).unwrap());
    let promised = read();
    let broken: Vec<&String> = promised.difference(&wire).collect();
    assert!(
        broken.is_empty(),
        "these are promised in {} and gone from proto/:\n{}\n\
         A field keeps its name, number and type for ever; what is of no more use stays, unused.",
        golden().display(),
        print(broken),
    );
    if std::env::var_os(ADD).is_some() {
        std::fs::write(golden(), print(&wire) + "\n").unwrap();
        return;
    }
    let new: Vec<&String> = wire.difference(&promised).collect();
    assert!(
        new.is_empty(),
        "these are in proto/ and not yet promised:\n{}\n\
         If they are meant, add them for ever: {ADD}=1 cargo test -p proto-events --test compat",
        print(new),
    );
}

#[test]
fn every_enum_begins_with_unspecified() {
    for line in lines(&FileDescriptorSet::decode(proto_events::DESCRIPTORS).unwrap()) {
        if let Some(zero) = line.strip_suffix(" = 0") {
            assert!(zero.ends_with("_UNSPECIFIED"), "{line}");
        }
    }
}

#[test]
fn a_change_is_seen() {
    let set = FileDescriptorSet::decode(proto_events::DESCRIPTORS).unwrap();
    let n_gone = |change: fn(&mut FieldDescriptorProto)| {
        let mut changed = set.clone();
        change(&mut changed.file[0].message_type[0].field[0]);
        lines(&set).difference(&lines(&changed)).count()
    };
    assert_eq!(n_gone(|it| it.number = Some(99)), 1);
    assert_eq!(n_gone(|it| it.name = Some("renamed".to_owned())), 1);
    assert_eq!(n_gone(|it| it.set_type(Type::Double)), 1);
    assert_eq!(n_gone(|it| it.set_label(Label::Repeated)), 1);
    assert_eq!(n_gone(|_| {}), 0);
}

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/wire.golden.txt")
}

fn read() -> BTreeSet<String> {
    let text = std::fs::read_to_string(golden()).expect("the promises can be read");
    text.lines().filter(|it| !it.is_empty()).map(str::to_owned).collect()
}

fn print<'a>(lines: impl IntoIterator<Item = &'a String>) -> String {
    lines.into_iter().map(String::as_str).collect::<Vec<_>>().join("\n")
}

/// A line for each field and enum value, in alphabetical order.
fn lines(set: &FileDescriptorSet) -> BTreeSet<String> {
    let mut lines = BTreeSet::new();
    for file in &set.file {
        for message in &file.message_type {
            add_message(&mut lines, file.package(), message);
        }
        for values in &file.enum_type {
            add_enum(&mut lines, file.package(), values);
        }
    }
    lines
}

fn add_message(lines: &mut BTreeSet<String>, within: &str, message: &DescriptorProto) {
    let name = format!("{within}.{}", message.name());
    for field in &message.field {
        lines.insert(line(&name, message, field));
    }
    for nested in &message.nested_type {
        add_message(lines, &name, nested);
    }
    for values in &message.enum_type {
        add_enum(lines, &name, values);
    }
}

fn add_enum(lines: &mut BTreeSet<String>, within: &str, values: &EnumDescriptorProto) {
    for value in &values.value {
        lines.insert(format!("{within}.{}.{} = {}", values.name(), value.name(), value.number()));
    }
}

/// `ledger.v1.Command.open_account 2 .ledger.v1.OpenAccount optional oneof body`
fn line(message_name: &str, message: &DescriptorProto, field: &FieldDescriptorProto) -> String {
    let plain = || field.r#type().as_str_name().trim_start_matches("TYPE_").to_lowercase();
    let kind = field.type_name.clone().unwrap_or_else(plain);
    let label = field.label().as_str_name().trim_start_matches("LABEL_").to_lowercase();
    let oneof = field
        .oneof_index
        .and_then(|it| message.oneof_decl.get(usize::try_from(it).ok()?))
        .map(|it| format!(" oneof {}", it.name()))
        .unwrap_or_default();
    format!("{message_name}.{} {} {kind} {label}{oneof}", field.name(), field.number())
}
