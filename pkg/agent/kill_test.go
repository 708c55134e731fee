package agent

const childEnv = "HOLKAS_AGENT_TEST_CHILD"

func child(string) int { return 1 }
