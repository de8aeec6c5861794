//! How a drill went.

use super::status::{lines, new_table};
use super::{Format, structured};
use crate::drill::{DrillResult, DrillTarget};

pub fn outcome(outcome: &DrillResult, format: Format) -> String {
    match format {
        Format::Name => format!("{}\n", outcome.leader.as_deref().unwrap_or_default()),
        Format::Table => table(outcome),
        _ => structured(format, outcome).unwrap_or_default(),
    }
}

fn table(outcome: &DrillResult) -> String {
    let verdict = if outcome.recovered {
        "recovered"
    } else {
        "NOT RECOVERED"
    };
    let what = match outcome.target {
        DrillTarget::Leader => "the leading master",
        DrillTarget::ZooKeeper => "a ZooKeeper server",
    };
    let mut text = format!("Drill      {}/{}  {verdict}\n", outcome.namespace, outcome.name);
    for missing in &outcome.missing {
        text.push_str(&format!("           - {missing}\n"));
    }
    text.push_str(&format!("Taken away {}, {what}\n", outcome.victim));
    let leader = outcome.leader.as_deref().unwrap_or("none");
    text.push_str(&format!("Leader     {leader}, before {}\n", outcome.leader_before));
    text.push_str(&match &outcome.probe_job {
        None => "Job        none was run\n\n".to_owned(),
        Some(result) => format!(
            "Job        {}, {} results, the longest pause between two {:.2} s\n\n",
            if result.went_on { "went on" } else { "DID NOT GO ON" },
            result.results,
            result.longest_pause
        ),
    });
    let mut table = new_table(&["PHASE", "AFTER"]);
    for step in &outcome.steps {
        let after = step
            .seconds
            .map_or_else(|| "not reached".into(), |seconds| format!("{seconds:.2} s"));
        table.add_row([step.phase.as_str(outcome.target).to_owned(), after]);
    }
    text + &lines(&table)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drill::probe_job::ProbeResult;
    use crate::drill::{DrillStep, Phase};

    #[test]
    fn what_was_not_reached_is_told() {
        let step = |phase, seconds| DrillStep { phase, seconds };
        let drill = DrillResult {
            namespace: "data".into(),
            name: "spark".into(),
            target: DrillTarget::Leader,
            victim: "spark-master-0".into(),
            leader_before: "spark-master-0".into(),
            leader: Some("spark-master-2".into()),
            recovered: false,
            steps: vec![step(Phase::Alive, Some(0.4)), step(Phase::Back, None)],
            probe_job: Some(ProbeResult {
                went_on: true,
                results: 7,
                longest_pause: 1.5,
            }),
            missing: vec!["2 of 3 masters answer".into()],
        };
        assert_eq!(
            outcome(&drill, Format::Table),
            "Drill      data/spark  NOT RECOVERED\n           \
             - 2 of 3 masters answer\n\
             Taken away spark-master-0, the leading master\n\
             Leader     spark-master-2, before spark-master-0\n\
             Job        went on, 7 results, the longest pause between two 1.50 s\n\
             \n\
             PHASE                 AFTER\n\
             another master ALIVE  0.40 s\n\
             back as a standby     not reached\n"
        );
    }
}
