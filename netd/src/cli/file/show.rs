//! A plan for people: a sign for each object, its fields below, then what it costs.

use std::fmt::Write as _;

use netd_api::{Action, FieldChange, Plan, PlanLine};

/// The text of a plan; `done`: it has been carried out.
pub fn plan(plan: &Plan, verbose: bool, done: bool) -> String {
    let mut text = String::new();
    for line in &plan.lines {
        text += &object(line);
    }
    for left in &plan.left {
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "  {left} is no longer asked for and stays; --prune removes it"
        );
    }
    let count = |action| plan.lines.iter().filter(|l| l.action == action).count();
    if plan.lines.is_empty() {
        text += "nothing to do\n";
        return text;
    }
    let to = if done { "" } else { "to be " };
    let _ = writeln!(
        text,
        "{to}created: {}, changed: {}, made anew: {}, removed: {}",
        count(Action::Create),
        count(Action::Change),
        count(Action::Remake),
        count(Action::Remove)
    );
    if !plan.flows.is_empty() {
        let would = if done { "cut" } else { "to be cut" };
        let hint = if verbose { "" } else { " (-v lists them)" };
        let _ = writeln!(text, "live flows {would}: {}{hint}", plan.flows.len());
        if verbose {
            text += &super::super::flow::flows(&plan.flows);
        }
    }
    text
}

fn object(line: &PlanLine) -> String {
    let sign = match line.action {
        Action::Create => "+",
        Action::Change => "~",
        Action::Remake => "-+",
        Action::Remove => "-",
    };
    let why = line.why.as_ref();
    let why = why.map_or_else(String::new, |w| format!(" (made anew: {w})"));
    let mut text = format!("{sign} {}{why}\n", line.object);
    if line.action != Action::Remove {
        for field in &line.fields {
            text += &change(field);
        }
    }
    text
}

fn change(f: &FieldChange) -> String {
    match (&f.old, &f.new) {
        (None, Some(new)) => format!("    {}: {new}\n", f.field),
        (old, new) => {
            let text = |v: &Option<String>| v.clone().unwrap_or_else(|| "-".into());
            format!("    {}: {} -> {}\n", f.field, text(old), text(new))
        }
    }
}
