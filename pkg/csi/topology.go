package csi

// TopologyKey is the key of the one topology segment that a node has: its id.
const TopologyKey = "topology.csi.holkas.io/node"
