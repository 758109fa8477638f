//! What is on a Docker host, in bbackup's words: applications with their containers, volumes and networks.
