// A DICOM study that lies in many files, as one archive without compression. Names of files are not taken over.

const TABLE = Uint32Array.from({ length: 256 }, (_, number) => {
  let value = number;
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ 0xedb88320 : value >>> 1;
  return value;
});
const MOST_FILES = 65535;
const MOST_BYTES = 2 ** 32 - 1;

function checksum(bytes) {
  let value = 0xffffffff;
  for (const byte of bytes) value = (value >>> 8) ^ TABLE[(value ^ byte) & 0xff];
  return (value ^ 0xffffffff) >>> 0;
}

// Numbers of 2 or 4 bytes, the lowest byte first.
function packed(...pairs) {
  const view = new DataView(new ArrayBuffer(pairs.reduce((sum, [size]) => sum + size, 0)));
  let place = 0;
  for (const [size, value] of pairs) {
    if (size === 2) view.setUint16(place, value, true);
    else view.setUint32(place, value, true);
    place += size;
  }
  return new Uint8Array(view.buffer);
}

export async function zipped(files) {
  const total = files.reduce((sum, file) => sum + file.size + 200, 0);
  if (files.length > MOST_FILES || total > MOST_BYTES) throw new Error("too many files, or more than 4 GB");
  const parts = [], directory = [];
  let place = 0;
  for (const [index, file] of files.entries()) {
    const name = new TextEncoder().encode(`${index}.dcm`);
    const sum = checksum(new Uint8Array(await file.arrayBuffer()));
    // needed version, flags, method (stored), time, date, checksum, sizes, lengths of name and extra field
    const facts = [[2, 20], [2, 0], [2, 0], [2, 0], [2, 33], [4, sum], [4, file.size], [4, file.size], [2, name.length], [2, 0]];
    const head = packed([4, 0x04034b50], ...facts);
    parts.push(head, name, file);
    // comment, disk, internal and external attributes, place of the file's own head
    directory.push(packed([4, 0x02014b50], [2, 20], ...facts, [2, 0], [2, 0], [2, 0], [4, 0], [4, place]), name);
    place += head.length + name.length + file.size;
  }
  const size = directory.reduce((sum, part) => sum + part.length, 0);
  const count = files.length;
  const end = packed([4, 0x06054b50], [2, 0], [2, 0], [2, count], [2, count], [4, size], [4, place], [2, 0]);
  return new File([...parts, ...directory, end], "study.zip");
}

// All files of what was dropped, folders included.
export async function dropped(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.length) return [...transfer.files];
  return (await Promise.all(entries.map(inside))).flat();
}

async function inside(entry) {
  if (entry.isFile) return [await new Promise((resolve, reject) => entry.file(resolve, reject))];
  const reader = entry.createReader(), found = [];
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) return (await Promise.all(found.map(inside))).flat();
    found.push(...some);
  }
}

// What is sent: scans and archives each by itself, all else together as one DICOM study.
export async function studies(files) {
  const alone = files.filter((file) => /\.(nii|nii\.gz|zip)$/i.test(file.name));
  const rest = files.filter((file) => !alone.includes(file));
  return rest.length > 1 ? [...alone, await zipped(rest)] : [...alone, ...rest];
}
