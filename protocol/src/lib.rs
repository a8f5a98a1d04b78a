//! What agent and gateway say to each other, and the state machines of both sides.
