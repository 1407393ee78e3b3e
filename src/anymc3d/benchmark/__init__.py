"""Methods x tasks x seeds under one protocol: the plan, the jobs, the table of results, the paper's layouts."""
