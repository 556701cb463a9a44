"""Where OpenLineage run events are sent."""
