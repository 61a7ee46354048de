"""The task `docking`: drug-like molecules that dock (AutoDock Vina) to a receptor of your own."""
