"""How data is made: sprouting domains, harvesting samples, judging answers. The models are passed in as an argument."""
