//! Triggers: what they answer and which timers they ask for.
