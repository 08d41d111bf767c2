//! Runs playbooks in the shape of Ansible, journalled and resumable.
