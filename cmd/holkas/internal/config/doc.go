// Package config reads a command's settings: from flags, the environment and a
// YAML file.
//
// A setting has one name everywhere: the flag --node-id is HOLKAS_NODE_ID in the
// environment and node-id in the file that --config (HOLKAS_CONFIG) names. A flag
// stands before the environment, that before the file, and the file before the
// default.
//
// Invariants.
//
//   - Every fault in flags, environment and file is found in one go, also in a
//     value that another one stands before. Each names where it is and what would
//     be right.
//   - The file is strict: a key that is no setting, one that is there twice, and a
//     second document are faults. So are an unknown flag and a stray argument. An
//     unknown variable is not: Kubernetes puts some of its own making there.
//   - Where a value is empty in the environment it is not set; an empty flag sets
//     the default again.
//   - A setting that has a fault leaves what it sets as it was.
//
// A list is a flag that is given several times, a list in the file, or, in the
// environment, texts with commas between them. In the file an item may have
// fields of its own, where the setting says so.
package config
