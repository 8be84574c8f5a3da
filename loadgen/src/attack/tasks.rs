//! Tasks: places in their table, and memory of their results.

use std::sync::atomic::Ordering;

use rand::{SeedableRng, rngs::SmallRng};

use super::{attacker::Attacker, bystander::Bystander, definition::Attack, tools};
use crate::request::{Era, Operation, Request};

pub(super) fn attacks() -> Vec<Attack> {
    vec![
        Attack {
            id: "task_table",
            description: "tasks that end at once, as many as possible",
            bystander: Bystander::Tasks,
            run: |attacker| create(attacker, tools::TASK, 2, 16),
        },
        Attack {
            id: "task_results",
            description: "tasks with results of 3 MB, as many as possible",
            bystander: Bystander::Tasks,
            run: |attacker| create(attacker, tools::LARGE_TASK, 1, 1),
        },
    ]
}

fn create(attacker: &Attacker<'_>, tool: &str, threads: usize, pipelined: u64) {
    let operation = Operation::Task { name: tool.to_owned(), arguments: "{}".to_owned() };
    let Ok(request) = Request::new(attacker.target, Era::Modern, operation, 1, false) else { return };
    let mut bytes = Vec::new();
    let number = attacker.requests.load(Ordering::Relaxed);
    request.write(0, number, None, &mut SmallRng::seed_from_u64(0), &mut bytes);
    attacker.flood(threads, pipelined, &[&bytes]);
}
