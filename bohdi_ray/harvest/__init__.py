"""How data is made: sprouting domains, harvesting samples, judging answers. Takes its models as an argument."""
