"""One model under vLLM: start, requests, new weights. Imports vLLM where it is used."""
