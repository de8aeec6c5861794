//! Formats written routes and checked routes.

use super::status::{Column, or_dash, table};
use crate::console::hint;
use crate::report::{Format, structured};
use crate::routes::check::{RouteCheck, RouteProblem, RouteReport, RouteState};
use crate::routing::vulcand::diff::Changes;
use crate::spec::names::visible_lines;

/// Written and deleted routes, or those that a dry run would write and delete.
pub fn changes(changes: &Changes, dry_run: bool, format: Format) -> String {
    let names = |verb: &str| -> String {
        let line = |(what, name): (&str, &String)| match verb {
            "" => format!("{name}\n"),
            _ => format!("{verb}{what} {name}\n"),
        };
        let written = changes.written.iter().map(|name| ("write", name));
        let deleted = changes.deleted.iter().map(|name| ("delete", name));
        written.chain(deleted).map(line).collect()
    };
    match format {
        Format::Name => names(""),
        Format::Table if dry_run && changes.is_empty() => "Nothing would change\n".into(),
        Format::Table if dry_run => names("would "),
        Format::Table => format!(
            "{} written, {} deleted, {} unchanged\n",
            changes.written.len(),
            changes.deleted.len(),
            changes.unchanged
        ),
        _ => structured(format, changes).unwrap_or_default(),
    }
}

/// All routes with their problems, followed by remedies.
pub fn check(report: &RouteReport, format: Format) -> String {
    let mut report = report.clone();
    let of_routes = report.routes.iter_mut().flat_map(|route| &mut route.problems);
    for problem in of_routes.chain(&mut report.problems) {
        problem.hint = hint::complete(&problem.hint);
    }
    let wrong = || report.routes.iter().filter(|route| !route.problems.is_empty());
    match format {
        Format::Name => wrong()
            .map(|route| format!("{}:{}\n", route.host, route.port))
            .collect(),
        Format::Table if report.routes.is_empty() && report.problems.is_empty() => "No routes\n".into(),
        Format::Table => {
            let mut text = String::new();
            if !report.routes.is_empty() {
                let columns: [Column<'_, RouteState>; 5] = [
                    ("WEB UI", &|route| format!("{}:{}", route.host, route.port)),
                    ("POD", &|route| route.pod.clone()),
                    ("LEADS TO", &|route| route.target.to_string()),
                    ("ADDRESS", &addresses),
                    ("STATE", &state),
                ];
                text = table(&report.routes, &columns);
            }
            if !report.is_right() {
                text.push('\n');
            }
            let of_routes = report.routes.iter().flat_map(|route| {
                let told = move |problem| (format!("{}:{}: ", route.host, route.port), problem);
                route.problems.iter().map(told)
            });
            let others = report.problems.iter().map(|problem| (String::new(), problem));
            text.push_str(&told(of_routes.chain(others).collect()));
            visible_lines(&text)
        }
        _ => structured(format, &report).unwrap_or_default(),
    }
}

fn addresses(route: &RouteState) -> String {
    let addresses: Vec<_> = route.addresses.iter().map(ToString::to_string).collect();
    or_dash((!addresses.is_empty()).then(|| addresses.join(",")))
}

fn state(route: &RouteState) -> String {
    let mut wrong: Vec<_> = route.problems.iter().map(|problem| word(problem.check)).collect();
    wrong.dedup();
    match wrong.is_empty() {
        true => "right".into(),
        false => format!("wrong {}", wrong.join(", ")),
    }
}

fn word(check: RouteCheck) -> &'static str {
    match check {
        RouteCheck::Vulcand => "in Vulcand",
        RouteCheck::Name => "name",
        RouteCheck::Page => "page",
    }
}

/// Groups problems by their remedy.
fn told(problems: Vec<(String, &RouteProblem)>) -> String {
    let mut hints: Vec<&str> = Vec::new();
    for (_, problem) in &problems {
        if !hints.contains(&problem.hint.as_str()) {
            hints.push(&problem.hint);
        }
    }
    let one = |hint: &&str| {
        let of_hint = problems.iter().filter(|(_, problem)| problem.hint == **hint);
        let lines: String = of_hint
            .map(|(prefix, problem)| format!("- {prefix}{}\n", problem.message))
            .collect();
        format!("{lines}  help: {hint}\n")
    };
    hints.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_are_shown_with_their_remedy() {
        let route = |port, problems| RouteState {
            host: "spark-master.ns.k8s".into(),
            port,
            pod: "spark-master-0".into(),
            target: [10, 1, 2, 3].into(),
            addresses: [[192, 0, 2, 7].into()].into(),
            problems,
        };
        let problem = RouteProblem {
            check: RouteCheck::Page,
            message: "192.0.2.7:8081 answers 404 Not Found".into(),
            hint: "`sparkha route apply`".into(),
        };
        let report = RouteReport {
            routes: vec![route(8080, vec![]), route(8081, vec![problem])],
            problems: vec![],
        };
        assert_eq!(
            check(&report, Format::Table),
            "WEB UI                    POD             LEADS TO  ADDRESS    STATE\n\
             spark-master.ns.k8s:8080  spark-master-0  10.1.2.3  192.0.2.7  right\n\
             spark-master.ns.k8s:8081  spark-master-0  10.1.2.3  192.0.2.7  wrong page\n\n\
             - spark-master.ns.k8s:8081: 192.0.2.7:8081 answers 404 Not Found\n  help: `sparkha route apply`\n"
        );
        assert_eq!(check(&report, Format::Name), "spark-master.ns.k8s:8081\n");
    }

    #[test]
    fn changes_and_dry_runs_are_shown() {
        let done = Changes {
            written: ["a.ns.k8s".into(), "listener sparkha-kubernetes-8080".into()].into(),
            deleted: ["b.ns.k8s".into()].into(),
            unchanged: 3,
            conflicts: Vec::new(),
        };
        assert_eq!(
            changes(&done, false, Format::Table),
            "2 written, 1 deleted, 3 unchanged\n"
        );
        assert_eq!(
            changes(&done, true, Format::Table),
            "would write a.ns.k8s\nwould write listener sparkha-kubernetes-8080\nwould delete b.ns.k8s\n"
        );
        assert_eq!(
            changes(&Changes::default(), true, Format::Table),
            "Nothing would change\n"
        );
    }
}
