//! The calls that the core makes, each as the bare message of its POST.

use std::time::Duration;

use proto::mesos::offer::{Operation, operation};
use proto::mesos::{AgentId, DurationInfo, Filters, FrameworkId, FrameworkInfo, KillPolicy, OfferId, TaskId, TaskInfo};
use proto::scheduler::{Call, call};

use super::Effect;

/// SUBSCRIBE; with the framework's id in both places once it is known, or the master answers 400.
pub(super) fn subscribe(framework: &FrameworkInfo, framework_id: Option<&FrameworkId>) -> Call {
    let mut framework_info = framework.clone();
    framework_info.id = framework_id.cloned();
    Call {
        framework_id: framework_id.cloned(),
        r#type: Some(call::Type::Subscribe.into()),
        subscribe: Some(Box::new(call::Subscribe { framework_info, suppressed_roles: Vec::new() })),
        ..Call::default()
    }
}

/// The calls of a subscribed framework.
#[derive(Debug, Clone, Default)]
pub(super) struct Calls {
    framework_id: Option<FrameworkId>,
}

impl Calls {
    pub(super) fn new(framework_id: Option<FrameworkId>) -> Self {
        // Mesos takes an empty id for none.
        Self { framework_id: framework_id.filter(|id| !id.value.is_empty()) }
    }

    pub(super) fn framework_id(&self) -> Option<&FrameworkId> {
        self.framework_id.as_ref()
    }

    fn of(&self, kind: call::Type) -> Call {
        Call { framework_id: self.framework_id.clone(), r#type: Some(kind.into()), ..Call::default() }
    }

    pub(super) fn teardown(&self) -> Effect {
        Effect::Call(Box::new(self.of(call::Type::Teardown)))
    }

    pub(super) fn accept(&self, offer_id: OfferId, task_infos: Vec<TaskInfo>, refuse_rest: Duration) -> Effect {
        let launch = Operation {
            r#type: Some(operation::Type::Launch.into()),
            launch: Some(operation::Launch { task_infos }),
            ..Operation::default()
        };
        let accept =
            call::Accept { offer_ids: vec![offer_id], operations: vec![launch], filters: Some(filters(refuse_rest)) };
        Effect::Call(Box::new(Call { accept: Some(accept), ..self.of(call::Type::Accept) }))
    }

    pub(super) fn decline(&self, offer_ids: Vec<OfferId>, refuse: Duration) -> Effect {
        let decline = call::Decline { offer_ids, filters: Some(filters(refuse)) };
        Effect::Call(Box::new(Call { decline: Some(decline), ..self.of(call::Type::Decline) }))
    }

    /// Without roles: all of ours, which every version understands.
    pub(super) fn revive(&self) -> Effect {
        Effect::Call(Box::new(self.of(call::Type::Revive)))
    }

    pub(super) fn suppress(&self) -> Effect {
        Effect::Call(Box::new(self.of(call::Type::Suppress)))
    }

    pub(super) fn kill(&self, task_id: &str, agent_id: &str, grace: Duration) -> Effect {
        let nanoseconds = i64::try_from(grace.as_nanos()).unwrap_or(i64::MAX);
        let kill = call::Kill {
            task_id: TaskId { value: task_id.to_owned() },
            agent_id: Some(AgentId { value: agent_id.to_owned() }),
            kill_policy: Some(KillPolicy { grace_period: Some(DurationInfo { nanoseconds }) }),
        };
        Effect::Call(Box::new(Call { kill: Some(kill), ..self.of(call::Type::Kill) }))
    }

    pub(super) fn acknowledge(&self, task_id: TaskId, agent_id: AgentId, uuid: Vec<u8>) -> Effect {
        let acknowledge = call::Acknowledge { agent_id, task_id, uuid };
        Effect::Call(Box::new(Call { acknowledge: Some(acknowledge), ..self.of(call::Type::Acknowledge) }))
    }

    /// To an executor.
    pub(super) fn message(&self, message: call::Message) -> Effect {
        Effect::Call(Box::new(Call { message: Some(message), ..self.of(call::Type::Message) }))
    }

    /// About these tasks, or, with none, about all that the master knows.
    pub(super) fn reconcile(&self, tasks: Vec<call::reconcile::Task>) -> Effect {
        let reconcile = call::Reconcile { tasks };
        Effect::Call(Box::new(Call { reconcile: Some(reconcile), ..self.of(call::Type::Reconcile) }))
    }
}

/// One task of an explicit RECONCILE. With its agent, the master can tell "unknown" from "not joined yet".
pub(super) fn question(wire_id: &str, agent_id: &str) -> call::reconcile::Task {
    call::reconcile::Task {
        task_id: TaskId { value: wire_id.to_owned() },
        agent_id: Some(AgentId { value: agent_id.to_owned() }),
    }
}

fn filters(refuse: Duration) -> Filters {
    Filters { refuse_seconds: Some(refuse.as_secs_f64()) }
}
