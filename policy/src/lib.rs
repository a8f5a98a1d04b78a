//! Who may do what: ids, grants, tokens, keys and the decision. No I/O, no clock of its own.
