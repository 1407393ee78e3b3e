"""What each stable code of an error means and what to do: the one table, which ``anymc3d help E-…`` shows.

The code stands behind every message (``error: … [E-scan-missing]``), in the rows of failed cases, and as ``code`` in
the service's problem details. docs/troubleshooting.md has a section for each.
"""

from __future__ import annotations

from typing import NamedTuple


class Kind(NamedTuple):
    """One kind of error."""

    meaning: str
    do: str


CODES: dict[str, Kind] = {
    "E-usage": Kind(
        "A command or function was called in a way that cannot work.",
        "The message says what was expected and what came. `anymc3d help COMMAND` shows examples.",
    ),
    "E-option": Kind(
        "An option, action or value is unknown or missing, or two options contradict each other.",
        "Take the suggestion of the message, or see `anymc3d help COMMAND`. Settings are written `key=value`.",
    ),
    "E-path": Kind(
        "A text that should be a path is not one on this system: too long, or a link in a circle.",
        "Check the cell or argument that the message shows; often a whole list was pasted into one place.",
    ),
    "E-package": Kind(
        "An optional package is needed and not installed.",
        "Run the `pip install` of the message. `anymc3d doctor` lists all optional parts.",
    ),
    "E-device": Kind(
        "The device that was asked for is not there, or not usable by the installed torch.",
        "Use `--device auto` or `cpu`. For a GPU, install a CUDA build of torch that fits the driver.",
    ),
    "E-memory": Kind(
        "There is not enough memory for this step.",
        "Training: `train.recompute=true`, smaller `train.chunk_size`, then `train.batch_size=1`, into a new folder. "
        "Prediction: `--chunk-size 1`; of a case with `--case-memory`: give it more.",
    ),
    "E-energy": Kind(
        "The device does not say how much energy it used.",
        "Leave energy out, or measure on a device that has a counter and lets this user read it.",
    ),
    "E-manifest": Kind(
        "The manifest cannot be used; every problem has its line, with the row's number.",
        "Correct the rows that are named. `anymc3d doctor MANIFEST.csv` finds the rest before training. "
        "Columns: [the manifest](manifest.md).",
    ),
    "E-problems": Kind(
        "A table or file has several problems, all of them listed.",
        "Correct them in one go; the number of the row, or the key, stands before each.",
    ),
    "E-labels": Kind(
        "A label column is missing or empty, or its values are not those of the task.",
        "Check the column's name and values. Give `--task task.yaml` where the message asks what is positive.",
    ),
    "E-covariates": Kind(
        "A clinical column is missing, or has values that no training row had.",
        "Fill the column as in training, or train without it: [clinical columns](covariates.md).",
    ),
    "E-layout": Kind(
        "A folder is not of the layout that was named to `anymc3d data adapt`.",
        "See what the layout expects in [data sets](data-sets.md); any folder with a table: `data adapt csv`.",
    ),
    "E-task-file": Kind(
        "The task file has unknown keys or values; every problem has its line.",
        "Take the suggestions, or write it again with `anymc3d plan`. Keys: [the task file](task-file.md).",
    ),
    "E-setting": Kind(
        "A setting has a value that cannot work, alone or with the others.",
        "The message names the key and what it takes: [the task file](task-file.md).",
    ),
    "E-scan": Kind(
        "A scan cannot be used, for a reason that has no code of its own.",
        "The message says what was expected. The other cases of the run are not affected.",
    ),
    "E-scan-missing": Kind(
        "There is no scan where the manifest or command says, or it cannot be opened.",
        "Check the path (relative to the manifest), its case of letters, its rights, and that it is not a broken link.",
    ),
    "E-scan-damaged": Kind(
        "A file is truncated, fails its checksum, or would unpack beyond all bounds.",
        "Get it again from its source and compare sizes. It is never read in part.",
    ),
    "E-scan-header": Kind(
        "The header says something that no right file says: sizes, spacing, directions or types that cannot be.",
        "Save it again with the program that wrote it, or convert the original again; edit no geometry by hand.",
    ),
    "E-scan-format": Kind(
        "The file is in no format that is read, or not one 3D scan (4D, a colour picture, a 2D slice).",
        "Convert it to `.nii.gz`, one volume a file. Formats: [the manifest](manifest.md).",
    ),
    "E-scan-constant": Kind(
        "All voxels have one value.",
        "The export is empty; get the scan again.",
    ),
    "E-series": Kind(
        "It is not clear which DICOM files are the scan, or the rule that chooses them does not fit.",
        "Take the rule that the message offers, as `--series` or in the column `series`: "
        "[series rules](dicom.md#series-rules).",
    ),
    "E-slices": Kind(
        "The slices do not make one straight, even stack: a gap, a changing increment, a tilt, two scans mixed.",
        "Get the whole series again. Where the message offers one, give `--allow-gaps` or a rule: [DICOM](dicom.md).",
    ),
    "E-units": Kind(
        "The values have no known unit, so that the task's window would mean nothing.",
        "Get the tags that are named from the source, or train with `normalise: percentile`, which needs no units.",
    ),
    "E-region": Kind(
        "The region of interest cannot be found: no mask, no point, an empty segmentation.",
        "Fill `mask` or `center_x, center_y, center_z`, or a policy for such cases: [regions](regions.md).",
    ),
    "E-mask": Kind(
        "A mask does not lie on its scan.",
        "Draw it on this scan, or bring it to the scan's grid with the program that made it.",
    ),
    "E-view": Kind(
        "The size or region that a view asks for does not suit this scan.",
        "Change `views.<view>.size`, `field_of_view` or the region, or leave the scan out.",
    ),
    "E-segmenter": Kind(
        "The network or program that finds the region cannot be used.",
        "Check its file, its sizes and its settings under `roi`: [regions](regions.md).",
    ),
    "E-remote": Kind(
        "A scan at an address cannot be fetched, or its address was not allowed on the command line.",
        "Name its beginning with `--remote`, check the credentials in the environment: [large cohorts](scaling.md).",
    ),
    "E-credentials": Kind(
        "A store refuses the credentials in the environment, or the signature of an address; often they have expired.",
        "Renew them and give the same command again: what is finished stays, and only these cases are tried again.",
    ),
    "E-excluded": Kind(
        "The task's settings leave this scan out; that is not a fault of the scan.",
        "Nothing, or change the policy that the message names.",
    ),
    "E-strict": Kind(
        "With `--strict` a case with a warning gets no answer.",
        "Correct what the warning says, or run without `--strict` and read the warnings.",
    ),
    "E-timeout": Kind(
        "A case took longer than it was given.",
        "Give more with `--timeout`, or look at why this scan takes so long; often it is far larger than the others.",
    ),
    "E-backbone": Kind(
        "Backbone weights are damaged, do not fit, or are not those that were expected.",
        "Import them again from their source; `anymc3d backbone verify` checks what is stored.",
    ),
    "E-weights-missing": Kind(
        "The weights are not on this machine, and nothing is downloaded unasked.",
        "`anymc3d backbone get NAME`, or without internet `anymc3d backbone import FILE`: [backbones](backbones.md).",
    ),
    "E-weights-unknown": Kind(
        "A weights file names its tensors as no backbone that is known.",
        "Give the file of the backbone itself, not of a whole classifier. Known ones: [backbones](backbones.md).",
    ),
    "E-download": Kind(
        "A download failed, or came with another hash than the pinned one; nothing was kept.",
        "Try again, check the proxy, or bring the file from another machine: [backbones](backbones.md).",
    ),
    "E-plugin": Kind(
        "A plugin file is damaged, of another version, or does not fit what it is used with.",
        "`anymc3d plugin verify FILE` says what is wrong; copy it again. Views and backbone: those of its training.",
    ),
    "E-calibration": Kind(
        "A calibration or operating point cannot be fitted on these cases, or its record is not valid.",
        "Calibrate on validation cases that have both outcomes: [metrics](metrics.md).",
    ),
    "E-table": Kind(
        "A table of predictions or scores is not as it was written, or does not fit the manifest.",
        "Give the files as `predict` wrote them, not through a spreadsheet, and the manifest that was predicted.",
    ),
    "E-folder": Kind(
        "The output folder belongs to another run, task or plugin, or its record is damaged.",
        "Choose another `-o`, or go back to the settings that the message names.",
    ),
    "E-folder-busy": Kind(
        "Another process works in this folder.",
        "Wait for the process that is named, or choose another `-o`.",
    ),
    "E-write": Kind(
        "An output cannot be written: a full disk, a quota, no rights, a read-only place.",
        "Make room or choose another place, then run the same command again; what was finished is kept.",
    ),
    "E-diverged": Kind(
        "Loss or gradient stopped being finite; the cases of that step are named.",
        "Look at these scans, then lower `train.lora_lr` and `train.head_lr`.",
    ),
    "E-process": Kind(
        "A process that the command started does not start, or ended with an error that it said itself.",
        "See what it said, above the last line. Without other processes: `--workers 0`, or leave out `--launch`.",
    ),
    "E-interrupted": Kind(
        "The run was asked to stop (exit code 75); its state is saved.",
        "Run the same command again: it goes on where it stopped.",
    ),
    "E-service": Kind(
        "The service cannot start, or one of its settings or rules cannot work.",
        "The message names the option: [the service](service.md), [DICOM node](dicom-node.md).",
    ),
    "E-request": Kind(
        "The service refuses a request: no token, another host name, an unknown job, a body that is too large or slow.",
        "The `detail` says which. Requests, limits and who may call: [the service](service.md).",
    ),
    "E-upload": Kind(
        "What was sent is not one scan or study that the service takes.",
        "Send one `.nii.gz`, one multi-frame `.dcm`, or a `.zip` of one DICOM study.",
    ),
    "E-queue-full": Kind(
        "As many studies wait as the service allows.",
        "Send again after the seconds in `Retry-After`, or start the service with a larger `--max-queued`.",
    ),
    "E-disk-full": Kind(
        "The disk of the service is nearly full.",
        "Remove results (`DELETE /v1/jobs/{id}`), shorten how long they are kept, or give `--store` another disk.",
    ),
    "E-internal": Kind(
        "Something happened that this program did not foresee: our fault.",
        "Run the command again with `--debug` and report the traceback, without names of patients.",
    ),
}
