//! What runs on an agent: the external containerizer's verbs, and the executor that owns a task's container.
