//! Formats the result of a failover drill.

use super::{Format, structured};
use crate::drill::{DrillResult, DrillStep, DrillTarget};

pub fn outcome(outcome: &DrillResult, format: Format) -> String {
    match format {
        Format::Name => format!("{}\n", outcome.leader.as_deref().unwrap_or_default()),
        Format::Table => table(outcome),
        _ => structured(format, outcome).unwrap_or_default(),
    }
}

fn table(outcome: &DrillResult) -> String {
    let verdict = match outcome.recovered {
        true => "recovered",
        false => "NOT RECOVERED",
    };
    let what = match outcome.target {
        DrillTarget::Leader => "the leading master",
        DrillTarget::ZooKeeper => "a ZooKeeper server",
    };
    let mut text = format!("Drill      {}/{}  {verdict}\n", outcome.namespace, outcome.name);
    for missing in &outcome.missing {
        text.push_str(&format!("           - {missing}\n"));
    }
    text.push_str(&format!("Stopped    {}, {what}\n", outcome.victim));
    let leader = outcome.leader.as_deref().unwrap_or("none");
    text.push_str(&format!("Leader     {leader}, previously {}\n", outcome.leader_before));
    text.push_str(&match &outcome.probe_job {
        None => "Job        not run\n\n".to_owned(),
        Some(song) => format!(
            "Job        {}, {} results, longest pause {:.2} s\n\n",
            if song.went_on { "continued" } else { "DID NOT CONTINUE" },
            song.results,
            song.longest_pause
        ),
    });
    let after = |step: &DrillStep| match step.seconds {
        Some(seconds) => format!("{seconds:.2} s"),
        None => "not reached".into(),
    };
    let phase = |step: &DrillStep| step.phase.as_str(outcome.target).to_owned();
    text + &super::status::table(&outcome.steps, &[("PHASE", &phase), ("AFTER", &after)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drill::Phase;
    use crate::drill::probe_job::ProbeResult;

    #[test]
    fn phases_that_were_not_reached_are_shown() {
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
             Stopped    spark-master-0, the leading master\n\
             Leader     spark-master-2, previously spark-master-0\n\
             Job        continued, 7 results, longest pause 1.50 s\n\
             \n\
             PHASE                 AFTER\n\
             another master ALIVE  0.40 s\n\
             back as a standby     not reached\n"
        );
    }
}
