package chaos

const (
	brokerCount        = 3
	numberedPartitions = 8
)
